//! The tables of keys. A row reads: key, what may be given, what it means, how it is set.

use engine::media::{Limits, WavFormat};
use engine::{
    Fallback, FitOptions, HubOptions, LoadMode, LoadOptions, MixOptions, Output, ResultCacheOptions, SttOptions, Task,
    TranslateOptions, TtsOptions,
};

use super::{Keys, Read, Row, Wrong, flag, list, maybe, number, parsed, time};

macro_rules! keys {
    ($(#[$doc:meta])* $name:ident: $type:ty = $([$key:literal, $range:literal, $about:literal, $set:expr])*) => {
        $(#[$doc])*
        pub(crate) static $name: Keys<$type> =
            Keys(&[$(Row { key: $key, range: $range, about: $about, set: |target: &mut $type, value| $set(target, value) }),*]);
    };
}

type Setting = Read<()>;

/// Settings of a factory, as far as its builder does not hold them.
#[derive(Default)]
pub(crate) struct Settings {
    pub(crate) builder: Vec<Box<dyn FnOnce(engine::FactoryBuilder) -> engine::FactoryBuilder>>,
    pub(crate) hub: HubOptions,
    pub(crate) results: Option<ResultCacheOptions>,
    pub(crate) no_results: bool,
}

impl Settings {
    fn build(&mut self, step: impl FnOnce(engine::FactoryBuilder) -> engine::FactoryBuilder + 'static) -> Setting {
        self.builder.push(Box::new(step));
        Ok(())
    }

    fn results(&mut self) -> Read<&mut ResultCacheOptions> {
        match &mut self.results {
            Some(given) => Ok(given),
            none => Ok(none.insert(ResultCacheOptions::from_env()?)),
        }
    }
}

keys! {
    FACTORY: Settings =
    ["memory_budget", "a number of bytes; 0 for no bound; default: DUBCORE_MEMORY_BUDGET, else no bound",
     "Bytes of weights; above 80 % of it the models that were not used for longest go.",
     |s: &mut Settings, v| { let bytes = number(v)?; s.build(move |b| b.memory_budget(bytes)) }]
    ["max_models", "a whole number, 1 or more; default: no bound", "Most models to keep.",
     |s: &mut Settings, v| match number(v)? { 0 => Err(Wrong::Range), models => s.build(move |b| b.max_models(models)) }]
    ["idle", "seconds; default: for ever",
     "How long a model that is not used stays; it goes at the next load, or dub_factory_sweep.",
     |s: &mut Settings, v| { let idle = time(v)?; s.build(move |b| b.idle(idle)) }]
    ["cpu_threads", "a whole number, 0 for one per core; default: DUBCORE_CPU_THREADS, else 0",
     "Compute threads of the whole process; effective before the first inference.",
     |s: &mut Settings, v| { let n = number(v)?; s.build(move |b| b.cpu_threads(n)) }]
    ["gpu_memory_threshold", "0 to 1; default: DUBCORE_GPU_MEMORY_THRESHOLD, else 0.9",
     "The part of a GPU's memory above which models are loaded on the processor.",
     |s: &mut Settings, v| { let part = number(v)?; s.build(move |b| b.gpu_memory_threshold(part)) }]
    ["models_dir", "a path; default: DUBCORE_MODELS_DIR, else none",
     "A folder with models as OWNER/NAME, looked into before the hub's cache.",
     |s: &mut Settings, v: &str| { let folder = v.to_owned(); s.build(move |b| b.models_dir(folder)) }]
    ["alias", "NAME=MODEL; may be given several times; default: none",
     "Lets a name, such as whisper:mine, stand for a model.",
     |s: &mut Settings, v: &str| {
        let (name, model) = v.split_once('=').ok_or(Wrong::Range)?;
        let (name, model) = (parsed(name.trim())?, parsed(model.trim())?);
        s.build(move |b| b.alias(&name, model))
     }]
    ["downloads", "true or false; default: true, unless HF_HUB_OFFLINE is 1",
     "Whether models of the hub that are not on this machine are fetched.",
     |s: &mut Settings, v| { s.hub.downloads = Some(flag(v)?); Ok(()) }]
    ["hub_cache", "a path; default: as the hub's own clients", "The folder that the hub's clients share.",
     |s: &mut Settings, v: &str| { s.hub.cache = Some(v.into()); Ok(()) }]
    ["hub_endpoint", "a URL; default: HF_ENDPOINT, else https://huggingface.co", "The hub's server.",
     |s: &mut Settings, v: &str| { s.hub.endpoint = Some(v.into()); Ok(()) }]
    ["hub_token", "a text; default: HF_TOKEN, else what `hf auth login` left", "What opens models that are not everyone's.",
     |s: &mut Settings, v: &str| { s.hub.token = Some(v.into()); Ok(()) }]
    ["hub_timeout", "seconds; default: HF_HUB_DOWNLOAD_TIMEOUT, else 10", "How long the hub's server may take to answer.",
     |s: &mut Settings, v| { s.hub.timeout = Some(time(v)?); Ok(()) }]
    ["results", "true or false; default: true if another key of results is given, else DUBCORE_RESULT_CACHE",
     "Whether results of stages and dubs are remembered.",
     |s: &mut Settings, v| { s.no_results = !flag(v)?; if !s.no_results { s.results()?; } Ok(()) }]
    ["results_entries", "a whole number, 1 or more; default: DUBCORE_RESULT_CACHE_SIZE, else 1000", "Most results in memory.",
     |s: &mut Settings, v| { s.results()?.entries = number(v)?; Ok(()) }]
    ["results_bytes", "a number of bytes, 1 or more; default: 268435456", "Most bytes of results in memory.",
     |s: &mut Settings, v| { s.results()?.bytes = number(v)?; Ok(()) }]
    ["results_ttl", "seconds, more than 0; default: DUBCORE_RESULT_CACHE_TTL_SECONDS, else 3600", "How long a result is good for.",
     |s: &mut Settings, v| { s.results()?.ttl = time(v)?; Ok(()) }]
    ["results_dir", "a path; default: DUBCORE_RESULT_CACHE_DISK, else none",
     "A folder that keeps results, too; processes may share it.",
     |s: &mut Settings, v: &str| { s.results()?.disk = Some(v.into()); Ok(()) }]
    ["results_dir_bytes", "a number of bytes, 1 or more; default: 4294967296", "Most bytes of results on disk.",
     |s: &mut Settings, v| { s.results()?.disk_bytes = number(v)?; Ok(()) }]
}

keys! {
    LOAD: LoadOptions =
    ["device", "auto, cpu or cuda:N; default: auto, which is what DUBCORE_DEVICE says", "Where it shall run.",
     |o: &mut LoadOptions, v| { o.device = parsed(v)?; Ok(()) }]
    ["compute_type", "auto, f32, bf16 or int8; default: auto, which is what DUBCORE_COMPUTE_TYPE says, else bf16 where the processor is faster in it, and f32 where not",
     "In which numbers it shall compute: less precise ones are faster and take less memory.",
     |o: &mut LoadOptions, v| { o.compute_type = parsed(v)?; Ok(()) }]
    ["pool_size", "a whole number, 0 for any number; default: 0", "How many calls may be in the model at once.",
     |o: &mut LoadOptions, v| { o.pool_size = number(v)?; Ok(()) }]
    ["queue", "a whole number; default: 64", "How many calls may wait for their turn; more get DUB_STATUS_BUSY at once.",
     |o: &mut LoadOptions, v| { o.queue = number(v)?; Ok(()) }]
    ["queue_timeout", "seconds, or none; default: none, which is as long as the job allows",
     "How long a call waits for its turn before it gets DUB_STATUS_BUSY.",
     |o: &mut LoadOptions, v| { o.queue_timeout = maybe(v, time)?; Ok(()) }]
    ["fallback", "models with commas between them; default: none",
     "What to use where the model cannot be loaded, in this order.",
     |o: &mut LoadOptions, v| { o.fallback = list(v, parsed)?; Ok(()) }]
    ["mode", "auto, memory or fallback; default: auto",
     "auto: whatever can be had; memory: this model on this device, or an error; fallback: only what it falls back to.",
     |o: &mut LoadOptions, v| {
        o.mode = match v {
            "auto" => LoadMode::Auto,
            "memory" => LoadMode::Memory,
            "fallback" => LoadMode::Fallback,
            _ => return Err(Wrong::Range),
        };
        Ok(())
     }]
    ["batch", "a whole number, 0 or 1 for none; default: 0",
     "How many texts, or pieces of sound, of calls that come together are worked on as one.",
     |o: &mut LoadOptions, v| {
        let most: usize = number(v)?;
        let wait = o.batch.unwrap_or_default().wait;
        o.batch = (most > 1).then(|| engine::Batching::default().most(most).wait(wait));
        Ok(())
     }]
}

keys! {
    /// Apart, because a pipeline sets it itself.
    HEARD: SttOptions =
    ["language", "a language code, or none; default: none, which lets the model tell", "The language spoken.",
     |o: &mut SttOptions, v| { o.language = maybe(v, parsed)?; Ok(()) }]
}

keys! {
    HEARING: SttOptions =
    ["task", "transcribe or translate; default: transcribe", "Whether it is written in its own language, or in English.",
     |o: &mut SttOptions, v| {
        o.task = match v {
            "transcribe" => Task::Transcribe,
            "translate" => Task::Translate,
            _ => return Err(Wrong::Range),
        };
        Ok(())
     }]
    ["timestamps", "true or false; default: false",
     "Whether the model writes timestamps: several utterances then share a window, which is faster.",
     |o: &mut SttOptions, v| { o.timestamps = flag(v)?; Ok(()) }]
    ["beams", "0 to 16, 1 for greedy, 0 for what the model was made for; default: 0", "The beam width.",
     |o: &mut SttOptions, v| { o.beams = number(v)?; Ok(()) }]
    ["max_tokens", "a whole number, 0 for as many as the model allows; default: 0", "Most tokens of a window.",
     |o: &mut SttOptions, v| { o.max_tokens = number(v)?; Ok(()) }]
    ["temperatures", "numbers, 0 to 2, with commas between them; default: 0,0.2,0.4,0.6,0.8,1",
     "What is tried in turn where a text is improbable or repeats itself.",
     |o: &mut SttOptions, v| { o.fallback.temperatures = list(v, number)?; Ok(()) }]
    ["compression_ratio", "a number, or none for never; default: 2.4",
     "A text is tried again if zlib makes it shorter than by this factor.",
     |o: &mut SttOptions, v| { o.fallback.compression_ratio = maybe(v, number)?; Ok(()) }]
    ["avg_logprob", "a number, or none for never; default: -1",
     "A text is tried again if its mean log-probability per token is lower.",
     |o: &mut SttOptions, v| { o.fallback.avg_logprob = maybe(v, number)?; Ok(()) }]
    ["no_speech", "0 to 1, or none for never; default: 0.6",
     "An improbable text is dropped as silence if the model's probability of that is higher.",
     |o: &mut SttOptions, v| { o.fallback.no_speech = maybe(v, number)?; Ok(()) }]
    ["best_of", "1 to 16; default: 5", "How many texts are drawn at a temperature above 0.",
     |o: &mut SttOptions, v| { o.fallback.best_of = number(v)?; Ok(()) }]
    ["seed", "a whole number; default: 0", "The seed of what is drawn: the same seed and sound give the same text.",
     |o: &mut SttOptions, v| { o.fallback.seed = number(v)?; Ok(()) }]
    ["retry", "true or false; default: true", "false: one try, whose outcome is taken as it is.",
     |o: &mut SttOptions, v| {
        match flag(v)? {
            false => o.fallback = Fallback::none(),
            true if o.fallback == Fallback::none() => o.fallback = Fallback::default(),
            true => {}
        }
        Ok(())
     }]
}

keys! {
    TRANSLATION: TranslateOptions =
    ["beams", "0 to 16, 0 for what the model was made for; default: 0", "The beam width.",
     |o: &mut TranslateOptions, v| { o.beams = number(v)?; Ok(()) }]
    ["max_tokens", "a whole number, 0 for as many as the model allows; default: 0", "Most tokens of a translation.",
     |o: &mut TranslateOptions, v| { o.max_tokens = number(v)?; Ok(()) }]
    ["alternatives", "a whole number, less than the beam width; default: 0", "How many other translations to return.",
     |o: &mut TranslateOptions, v| { o.alternatives = number(v)?; Ok(()) }]
}

keys! {
    /// Apart, because a pipeline sets it itself.
    SPOKEN: TtsOptions =
    ["language", "a language code, or none; default: none, which is the voice's own", "The language of the texts.",
     |o: &mut TtsOptions, v| { o.language = maybe(v, parsed)?; Ok(()) }]
}

keys! {
    SPEAKING: TtsOptions =
    ["speaker", "a whole number; default: 0", "Which of the voice's speakers, from 0.",
     |o: &mut TtsOptions, v| { o.speaker = number(v)?; Ok(()) }]
    ["speaking_rate", "0.25 to 4; default: 1, the voice's own pace", "How fast to speak.",
     |o: &mut TtsOptions, v| { o.speaking_rate = number(v)?; Ok(()) }]
    ["noise_scale", "0 to 2, or none; default: none, what the voice was made for", "Variation of the sound.",
     |o: &mut TtsOptions, v| { o.noise_scale = maybe(v, number)?; Ok(()) }]
    ["noise_scale_duration", "0 to 2, or none; default: none, what the voice was made for", "Variation of the rhythm.",
     |o: &mut TtsOptions, v| { o.noise_scale_duration = maybe(v, number)?; Ok(()) }]
    ["seed", "a whole number; default: 0", "The seed of the noise: the same seed and text give the same sound.",
     |o: &mut TtsOptions, v| { o.seed = number(v)?; Ok(()) }]
}

keys! {
    /// Which models a pipeline is made of.
    MODELS: engine::DubModels =
    ["stt", "a model's name; default: an embedded one for the languages", "The recogniser.",
     |m: &mut engine::DubModels, v| { m.stt = Some(parsed(v)?); Ok(()) }]
    ["translator", "a model's name; default: an embedded one for the languages", "The translator.",
     |m: &mut engine::DubModels, v| { m.translator = Some(parsed(v)?); Ok(()) }]
    ["tts", "a model's name; default: an embedded one for the languages", "The voice.",
     |m: &mut engine::DubModels, v| { m.tts = Some(parsed(v)?); Ok(()) }]
}

/// Which sound of media.
#[derive(Clone, Default)]
pub(crate) struct Chosen {
    pub(crate) track: Option<usize>,
    pub(crate) limits: Limits,
}

keys! {
    MEDIA: Chosen =
    ["track", "a whole number; default: the one that is marked, or the first", "Which sound track, from 0.",
     |c: &mut Chosen, v| { c.track = Some(number(v)?); Ok(()) }]
    ["max_duration", "seconds; default: 14400", "Longest sound that is taken.",
     |c: &mut Chosen, v| { c.limits.max_duration = time(v)?; Ok(()) }]
    ["max_channels", "a whole number; default: 8", "Most channels that are taken.",
     |c: &mut Chosen, v| { c.limits.max_channels = number(v)?; Ok(()) }]
    ["max_bytes", "a number of bytes; default: 8589934592", "Largest file that is taken.",
     |c: &mut Chosen, v| { c.limits.max_bytes = number(v)?; Ok(()) }]
}

fn format(value: &str) -> Read<WavFormat> {
    match value {
        "i16" => Ok(WavFormat::I16),
        "f32" => Ok(WavFormat::F32),
        _ => Err(Wrong::Range),
    }
}

keys! {
    AUDIO_FILE: WavFormat =
    ["format", "i16 or f32; default: i16", "How samples are stored: 16-bit integers, or 32-bit floats.",
     |f: &mut WavFormat, v| { *f = format(v)?; Ok(()) }]
}

/// A request, as far as no table of a stage sets it.
pub(crate) type Request = engine::DubRequest;

fn fit(r: &mut Request, set: impl FnOnce(&mut FitOptions)) -> Setting {
    set(&mut r.fit);
    Ok(())
}

fn mix(r: &mut Request, set: impl FnOnce(&mut MixOptions)) -> Setting {
    set(&mut r.mix);
    Ok(())
}

keys! {
    REQUEST: Request =
    ["from", "a language code, or none; default: none, which lets the recogniser tell", "The language of the media.",
     |r: &mut Request, v| { r.from = maybe(v, parsed)?; Ok(()) }]
    ["output", "a path; default: no track is written",
     "The WAV file of the track. It is written as NAME.part and gets its name when the dub is complete.",
     |r: &mut Request, v: &str| match v { "" => Err(Wrong::Range), v => { r.output = Output::File(v.into()); Ok(()) } }]
    ["keep", "true or false; default: false", "Keeps the track in memory, for dub_result_track, instead of a file.",
     |r: &mut Request, v| {
        match (flag(v)?, &r.output) {
            (true, _) => r.output = Output::Memory,
            (false, Output::Memory) => r.output = Output::Discard,
            (false, _) => {}
        }
        Ok(())
     }]
    ["format", "i16 or f32; default: i16", "How the track's samples are stored: 16-bit integers, or 32-bit floats.",
     |r: &mut Request, v| { r.format = format(v)?; Ok(()) }]
    ["beams", "0 to 16, 0 for what the model was made for; default: 0", "The translator's beam width.",
     |r: &mut Request, v| { r.beams = number(v)?; Ok(()) }]
    ["fit.slowest_rate", "0.25 to 4; default: 0.9", "The slowest rate the voice is asked to speak at.",
     |r: &mut Request, v| { let n = number(v)?; fit(r, |f| f.rate.0 = n) }]
    ["fit.fastest_rate", "0.25 to 4; default: 1.2", "The fastest rate the voice is asked to speak at.",
     |r: &mut Request, v| { let n = number(v)?; fit(r, |f| f.rate.1 = n) }]
    ["fit.slowest_stretch", "0.25 to 1; default: 0.85", "The slowest stretch of what was spoken.",
     |r: &mut Request, v| { let n = number(v)?; fit(r, |f| f.stretch.0 = n) }]
    ["fit.fastest_stretch", "1 to 4; default: 1.25", "The fastest stretch of what was spoken.",
     |r: &mut Request, v| { let n = number(v)?; fit(r, |f| f.stretch.1 = n) }]
    ["fit.max_stretch", "fit.fastest_stretch to 4; default: 1.6",
     "The fastest stretch where the gap to the next line does not suffice either.",
     |r: &mut Request, v| { let n = number(v)?; fit(r, |f| f.max_stretch = n) }]
    ["fit.guard", "0 to 10 seconds; default: 0.05", "The pause that remains before the next line.",
     |r: &mut Request, v| { let t = time(v)?; fit(r, |f| f.guard = t) }]
    ["fit.fade", "0 to 10 seconds; default: 0.03", "The fade-out of a line that is cut.",
     |r: &mut Request, v| { let t = time(v)?; fit(r, |f| f.fade = t) }]
    ["mix.duck_db", "-120 to 0, or none to mute it; default: -24", "Gain of the original during lines, in dB.",
     |r: &mut Request, v| { let n = maybe(v, number)?; mix(r, |m| m.duck_db = n) }]
    ["mix.original", "true or false; default: true", "Whether the original is heard at all.",
     |r: &mut Request, v| { let is = flag(v)?; mix(r, |m| m.original = is) }]
    ["mix.attack", "0 to 10 seconds; default: 0.05", "How long before a line the original begins to fade.",
     |r: &mut Request, v| { let t = time(v)?; mix(r, |m| m.attack = t) }]
    ["mix.release", "0 to 10 seconds; default: 0.2", "How long after a line it takes to come back.",
     |r: &mut Request, v| { let t = time(v)?; mix(r, |m| m.release = t) }]
    ["mix.match_loudness", "true or false; default: true", "Whether lines are made as loud as the original speech.",
     |r: &mut Request, v| { let is = flag(v)?; mix(r, |m| m.match_loudness = is) }]
    ["mix.ceiling_db", "-60 to 0; default: -1", "Peak level during lines, in dBFS.",
     |r: &mut Request, v| { let n = number(v)?; mix(r, |m| m.ceiling_db = n) }]
}

keys! {
    PRELOAD: bool =
    ["warm", "true or false; default: false",
     "Whether each model is run once on next to nothing, so that the first real call finds all that is made on first use.",
     |warm: &mut bool, v| { *warm = flag(v)?; Ok(()) }]
}

keys! {
    BENCHMARK: usize =
    ["iterations", "a whole number, 1 or more; default: 3", "How many dubs are measured, behind one that is not.",
     |n: &mut usize, v| { *n = number(v)?; Ok(()) }]
}

/// What a host says of its own stage.
#[derive(Default)]
pub(crate) struct Described {
    pub(crate) from: Vec<engine::Lang>,
    pub(crate) to: Vec<engine::Lang>,
    pub(crate) sample_rate: u32,
    pub(crate) revision: String,
    pub(crate) bytes: u64,
}

keys! {
    OWN: Described =
    ["from", "language codes with commas between them; default: any", "What it takes in.",
     |d: &mut Described, v| { d.from = list(v, parsed)?; Ok(()) }]
    ["to", "language codes with commas between them; default: the same as it takes in, or any", "What it gives out.",
     |d: &mut Described, v| { d.to = list(v, parsed)?; Ok(()) }]
    ["sample_rate", "Hz, 0 for any; default: 0", "The rate of the sound that it produces, or wants.",
     |d: &mut Described, v| { d.sample_rate = number(v)?; Ok(()) }]
    ["revision", "a text; default: empty, and then no result of it is remembered",
     "What tells this version of it from any other: results are remembered by it.",
     |d: &mut Described, v: &str| { d.revision = v.into(); Ok(()) }]
    ["bytes", "a number of bytes; default: 0", "What it takes in memory, for the factory's bounds.",
     |d: &mut Described, v| { d.bytes = number(v)?; Ok(()) }]
}

/// Tells `part` of each table: where it is used, its rows, what stands before its keys.
pub(super) fn manual(part: &mut impl FnMut(&str, &[(&'static str, &'static str, &'static str)], &str)) {
    part("Settings: dub_factory_new.", &FACTORY.rows(), "");
    part("Loading: dub_stt_load, dub_translator_load, dub_tts_load, dub_pipeline_load, preloading.", &LOAD.rows(), "");
    part("Models: dub_pipeline_load, dub_benchmark; with the keys of loading.", &MODELS.rows(), "");
    part("Preloading: dub_factory_preload; with the keys of loading.", &PRELOAD.rows(), "");
    part("Media: dub_audio_load, dub_audio_decode; requests for files and bytes.", &MEDIA.rows(), "");
    part("Files: dub_audio_save.", &AUDIO_FILE.rows(), "");
    part("What is spoken: dub_stt_transcribe.", &HEARD.rows(), "");
    part("Recognition: dub_stt_transcribe; requests, as stt.KEY.", &HEARING.rows(), "");
    part("Translation: dub_translator_translate.", &TRANSLATION.rows(), "");
    part("What is to be spoken: dub_tts_synthesize, dub_tts_duration.", &SPOKEN.rows(), "");
    part("Speech: dub_tts_synthesize, dub_tts_duration; requests, as tts.KEY.", &SPEAKING.rows(), "");
    part("Requests: dub_request_file, dub_request_bytes, dub_request_audio.", &REQUEST.rows(), "");
    part("Stages of the host's own: dub_factory_add_stt, dub_factory_add_translator, dub_factory_add_tts.", &OWN.rows(), "");
    part("Measuring: dub_benchmark; with the keys of models and loading.", &BENCHMARK.rows(), "");
}
