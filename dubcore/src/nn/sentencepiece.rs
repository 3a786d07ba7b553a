//! SentencePiece (Kudo and Richardson 2018): `.spm` files read natively.

use std::panic::{AssertUnwindSafe, catch_unwind};

use sentencepiece_rs::SentencePieceProcessor;

use crate::error::{Error, ErrorKind, Result};
use crate::source::ModelFiles;

/// A SentencePiece model. Thread-safe, immutable.
pub(crate) struct SentencePiece(SentencePieceProcessor);

impl SentencePiece {
    pub(crate) fn load(files: &ModelFiles, file: &str) -> Result<Self> {
        let bytes = files.read(file)?;
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
