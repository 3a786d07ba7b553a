//! A panic, wherever it begins, is an outcome for C.

use std::ffi::{CStr, c_char};
use std::ptr::{null, null_mut};
use std::sync::Arc;

use engine::{
    Error, ErrorKind, Job as Work, Lang, OwnModel, Result, StageInfo, Stt, SttOptions, Transcript, TranslateOptions, Translation,
};

use crate::document::dub_text_free;
use crate::door::run;
use crate::error::{Failure, Status, dub_error_free, dub_error_kind, dub_error_message, dub_error_new};
use crate::factory::{dub_factory_free, dub_factory_preload, dub_factory_status};
use crate::handle::{
    DubResult, Factory, Handle, Job, Line, Pipeline, Request, Run, Stt as SttHandle, Text, Translator, Tts, put,
};
use crate::line::{dub_line_free, dub_line_outcome};
use crate::pipeline::{dub_pipeline_free, dub_pipeline_new};
use crate::request::{dub_request_audio, dub_request_free};
use crate::result::dub_result_free;
use crate::run::{dub_run_finish, dub_run_free, dub_run_next, dub_run_start};
use crate::stt::{dub_stt_free, dub_stt_load};
use crate::translator::{dub_translator_free, dub_translator_load, dub_translator_translate};

/// A backend with a defect.
struct Broken;

impl engine::Translator for Broken {
    fn translate(&self, _: &[&str], _: &TranslateOptions, _: &Work) -> Vec<Result<Translation>> {
        panic!("the translator is broken");
    }

    fn info(&self) -> StageInfo {
        StageInfo::new("broken:translator")
    }
}

impl Stt for Broken {
    fn transcribe(&self, _: &engine::Audio, _: &SttOptions, _: &Work) -> Result<Transcript> {
        panic!("the recogniser is broken");
    }

    fn info(&self) -> StageInfo {
        StageInfo::new("broken:stt").languages([Lang::EN], [])
    }
}

fn none<H: Handle + crate::place::Blank>() -> H {
    H::BLANK
}

fn factory() -> Factory {
    let name = |name: &str| name.parse().unwrap();
    let builder = engine::Factory::builder()
        .own_model(name("broken:translator"), || Ok(OwnModel::translator(Arc::new(Broken))))
        .own_model(name("broken:stt"), || Ok(OwnModel::stt(Arc::new(Broken))))
        .own_model(name("broken:maker"), || panic!("the maker is broken"));
    put(builder.build().unwrap()).unwrap()
}

/// An error object of C's, and what it tells.
struct Told(*mut Failure);

impl Told {
    fn new() -> Self {
        Self(dub_error_new())
    }

    fn message(&self) -> String {
        // SAFETY: it is live, and its texts with it.
        unsafe { CStr::from_ptr(dub_error_message(self.0)).to_str().unwrap().to_owned() }
    }

    fn kind(&self) -> String {
        // SAFETY: as above.
        unsafe { CStr::from_ptr(dub_error_kind(self.0)).to_str().unwrap().to_owned() }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        // SAFETY: nobody else frees it.
        unsafe { dub_error_free(self.0) };
    }
}

#[test]
fn a_panic_stops_at_the_door() {
    let told = Told::new();
    // SAFETY: the error object is live.
    let status = unsafe { run(told.0, || panic!("out of order")) };
    assert_eq!((status, told.kind().as_str()), (Status::Internal, "internal"));
    assert_eq!(told.message(), "a defect in dubcore: out of order");
    // SAFETY: NULL is allowed.
    assert_eq!(unsafe { run(null_mut(), || Err(Error::new(ErrorKind::Busy, "later"))) }, Status::Busy);
}

#[test]
fn a_backend_that_panics_fails_its_call_and_nothing_else() {
    let (factory, told) = (factory(), Told::new());
    let (mut translator, mut translations) = (none::<Translator>(), none());
    let text: *const c_char = c"Hello.".as_ptr();
    // SAFETY: what is passed is live and of its type.
    unsafe {
        let load = dub_translator_load(factory, c"broken:maker".as_ptr(), null(), none(), &mut translator, told.0);
        assert_eq!((load, translator.kind), (Status::Internal, 0));
        assert!(told.message().contains("the maker is broken"), "{}", told.message());
        let model = c"broken:maker".as_ptr();
        assert_eq!(dub_factory_preload(factory, &model, 1, null(), none(), told.0), Status::Internal);

        let load = dub_translator_load(factory, c"broken:translator".as_ptr(), null(), none(), &mut translator, told.0);
        assert_eq!(load, Status::Ok, "{}", told.message());
        for _ in 0..3 {
            let (from, to) = (c"en".as_ptr(), c"es".as_ptr());
            let status = dub_translator_translate(translator, &text, 1, from, to, null(), none(), &mut translations, told.0);
            // The call fails as a whole, or its text does.
            match status {
                Status::Ok => {
                    let (mut said, mut score) = (null(), 0.0);
                    let status = crate::translator::dub_translations_text(translations, 0, &mut said, &mut score, told.0);
                    assert_eq!((status, said), (Status::Internal, null()));
                    assert_eq!(crate::translator::dub_translations_free(translations), Status::Ok);
                }
                status => assert_eq!(status, Status::Internal),
            }
            assert!(told.message().contains("broken:translator panicked"), "{}", told.message());
        }
        assert_eq!(dub_translator_free(translator), Status::Ok);
        let mut status = none::<Text>();
        assert_eq!(dub_factory_status(factory, &mut status, told.0), Status::Ok);
        assert_eq!((dub_text_free(status), dub_factory_free(factory)), (Status::Ok, Status::Ok));
    }
}

#[test]
fn a_dub_survives_a_recogniser_that_panics() {
    let (factory, told) = (factory(), Told::new());
    let clip = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/media/kitchen.wav");
    let sound = engine::media::decode(&clip.into(), &engine::media::Limits::default(), &Work::new()).unwrap();
    let audio: crate::handle::Audio = put(sound).unwrap();
    let (mut stt, mut pipeline, mut request) = (none::<SttHandle>(), none::<Pipeline>(), none::<Request>());
    let (mut started, mut line, mut result) = (none::<Run>(), none::<Line>(), none::<DubResult>());
    // SAFETY: what is passed is live and of its type.
    unsafe {
        assert_eq!(dub_stt_load(factory, c"broken:stt".as_ptr(), null(), none(), &mut stt, told.0), Status::Ok);
        assert_eq!(dub_pipeline_new(stt, none::<Translator>(), none::<Tts>(), &mut pipeline, told.0), Status::Ok);
        assert_eq!(dub_request_audio(audio, c"en".as_ptr(), null(), &mut request, told.0), Status::Ok);
        assert_eq!(dub_run_start(pipeline, request, none::<Job>(), &mut started, told.0), Status::Ok, "{}", told.message());
        let mut failed = 0;
        while dub_run_next(started, &mut line, told.0) == Status::Ok {
            assert_eq!(dub_line_outcome(line, told.0), Status::Internal, "{}", told.message());
            assert!(told.message().contains("broken:stt panicked"), "{}", told.message());
            assert_eq!(dub_line_free(line), Status::Ok);
            failed += 1;
        }
        assert_eq!((told.kind().as_str(), line.kind), ("end", 0));
        assert!(failed > 0, "nobody was heard");
        assert_eq!(dub_run_finish(started, &mut result, told.0), Status::Internal);
        assert_eq!(dub_result_free(result), Status::Ok, "none");
        assert_eq!(dub_run_finish(started, &mut result, told.0), Status::InvalidArgument);
        assert_eq!((dub_run_free(started), dub_request_free(request)), (Status::Ok, Status::Ok));
        assert_eq!((dub_pipeline_free(pipeline), dub_stt_free(stt)), (Status::Ok, Status::Ok));
        assert_eq!((crate::audio::dub_audio_free(audio), dub_factory_free(factory)), (Status::Ok, Status::Ok));
    }
}
