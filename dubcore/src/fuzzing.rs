//! Ways for the fuzzers to what the public interface reaches only through files and whole models. Built by them alone.
#![allow(missing_docs, reason = "no part of the library that anyone uses")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::backend;
use crate::backends::{ALL, marian, vits, whisper};
use crate::compute::ComputeType;
use crate::error::{Error, ErrorKind, Result};
use crate::lang::Lang;
use crate::nn::sentencepiece::SentencePiece;
use crate::nn::weights::Weights;
use crate::source::ModelFiles;
use crate::text;

type Files<'a> = [(&'a str, &'a [u8])];

/// Loads a model as the factory does, which takes a panic for damage.
pub fn model(files: &Files<'_>) -> Result<()> {
    let files = ModelFiles::in_memory(files);
    backend::load(&files, crate::device::cpu(), ComputeType::F32, ALL).map(drop)
}

/// Opens weights and reads every tensor.
pub fn weights(bytes: &[u8]) -> Result<()> {
    let weights = Weights::parse("model.safetensors", bytes.to_vec().into())?;
    for (name, shape) in weights.list() {
        match weights.values(&name, &shape) {
            Ok(values) => assert_eq!(values.len(), shape.iter().product::<usize>()),
            Err(e) => assert!(matches!(e.kind(), ErrorKind::ModelCorrupt | ErrorKind::ModelIncompatible), "{e:?}"),
        }
    }
    assert_eq!(weights.list().len(), weights.list().iter().filter(|(name, _)| weights.has(name)).count());
    Ok(())
}

/// Reads Whisper's tokenizer.json; the text of tokens.
pub fn whisper_tokens(tokenizer: &[u8], tokens: &[u32]) -> Result<String> {
    caught(|| whisper::text_of(&ModelFiles::in_memory(&[("tokenizer.json", tokenizer)]), tokens))
}

/// Reads a SentencePiece model; there and back with texts.
pub fn sentence_pieces(model: &[u8], texts: &[&str]) -> Result<Vec<String>> {
    let model = SentencePiece::load(&ModelFiles::in_memory(&[("source.spm", model)]), "source.spm")?;
    let there_and_back = |text: &&str| {
        let pieces = model.encode(text)?;
        model.decode(&pieces.iter().map(String::as_str).collect::<Vec<_>>())
    };
    texts.iter().map(there_and_back).collect()
}

/// Reads Marian's tokenizer; tokens of a text, and the text of tokens.
pub fn marian_tokens(spm: (&[u8], &[u8]), vocab: &[u8], text: &str, tokens: &[u32]) -> Result<(Vec<u32>, String)> {
    let files = ModelFiles::in_memory(&[("vocab.json", vocab), ("source.spm", spm.0), ("target.spm", spm.1)]);
    marian::tokens_of(&files, 400, text, tokens)
}

/// Reads a voice's tokenizer; tokens of a text.
pub fn vits_tokens(vocab: &[u8], settings: &[u8], text: &str) -> Result<Vec<u32>> {
    let files = ModelFiles::in_memory(&[("vocab.json", vocab), ("tokenizer_config.json", settings)]);
    vits::tokens_of(&files, 400, text)
}

/// Any text in a voice's letters has nothing but those, or is refused.
pub fn spoken_text(text: &str) {
    let known = |c: char| c.is_ascii_lowercase() || "áéíóúüñ ,.?!'".contains(c);
    for lang in [Lang::ES, Lang::EN] {
        if let Ok(said) = text::spell_out(text, lang, &known) {
            assert!(said.chars().all(known), "{said:?}");
        }
    }
}

fn caught<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(Error::new(ErrorKind::ModelCorrupt, "a panic while loading")))
}
