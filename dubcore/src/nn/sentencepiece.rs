//! SentencePiece (Kudo and Richardson 2018): `.spm` files read natively.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use sentencepiece_rs::SentencePieceProcessor;

use crate::error::{Error, ErrorKind, Result};
use crate::source::ModelFiles;

/// Fields of the message that such a file is (sentencepiece_model.proto).
const PIECE: u64 = 1;
const TRAINER: u64 = 2;
const NORMALIZER: u64 = 3;

/// The numbers of the fields in a Protocol Buffers message, all of which have a length; `None` where it is none.
fn fields(mut message: &[u8]) -> Option<BTreeSet<u64>> {
    fn number(message: &mut &[u8]) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = message.split_first()?;
            *message = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
    let mut found = BTreeSet::new();
    while !message.is_empty() {
        let tag = number(&mut message)?;
        let length = usize::try_from(number(&mut message)?).ok()?;
        message = message.get(length..)?;
        found.insert(Some(tag >> 3).filter(|_| tag & 7 == 2)?);
    }
    Some(found)
}

/// A SentencePiece model. Thread-safe, immutable.
pub(crate) struct SentencePiece(SentencePieceProcessor);

impl SentencePiece {
    pub(crate) fn load(files: &ModelFiles, file: &str) -> Result<Self> {
        let bytes = files.read(file)?;
        // Cut off between two pieces it would be a model of fewer pieces. The trainer writes them first, its settings last.
        if !fields(&bytes).is_some_and(|found| [PIECE, TRAINER, NORMALIZER].iter().all(|f| found.contains(f))) {
            return Err(files.corrupt(file, "is not a whole SentencePiece model: fetch it again"));
        }
        // The parser of a foreign format: a defect in it must not take the host down.
        catch_unwind(AssertUnwindSafe(|| SentencePieceProcessor::from_serialized_model(&bytes)))
            .map_err(|_| files.corrupt(file, "is damaged: fetch it again"))?
            .map(Self)
            .map_err(|e| files.corrupt(file, "is not a SentencePiece model").with_source(Error::internal(e.to_string())))
    }

    /// The pieces of a text.
    pub(crate) fn encode(&self, text: &str) -> Result<Vec<String>> {
        self.0.encode(text).map_err(|e| Error::new(ErrorKind::InvalidArgument, format!("the text cannot be tokenised: {e}")))
    }

    /// The text of pieces.
    pub(crate) fn decode(&self, pieces: &[&str]) -> Result<String> {
        self.0.decode_pieces(pieces).map_err(|e| Error::internal(format!("the pieces cannot be joined: {e}")))
    }

    /// The model's own id of a piece (Marian numbers pieces by its vocab.json instead).
    #[cfg(test)]
    pub(crate) fn ids(&self, text: &str) -> Vec<usize> {
        self.0.encode_to_ids(text).unwrap()
    }
}
