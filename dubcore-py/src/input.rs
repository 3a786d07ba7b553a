//! Media that a caller names or holds.

use std::path::PathBuf;
use std::sync::Arc;

use dubcore::media::Input;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use crate::audio::Audio;

/// A path as a string, bytes, or an Audio: what else there is, the Python half makes one of these.
pub(crate) fn input(media: &Bound<'_, PyAny>, track: Option<usize>) -> PyResult<Input> {
    let input = if let Ok(audio) = media.cast::<Audio>() {
        Input::from(audio.get().0.clone())
    } else if let Ok(bytes) = media.cast::<PyBytes>() {
        Input::from(Arc::<[u8]>::from(bytes.as_bytes()))
    } else if media.is_instance_of::<PyString>() {
        Input::from(media.extract::<PathBuf>()?)
    } else if let Ok(buffer) = pyo3::buffer::PyBuffer::<u8>::get(media) {
        Input::from(buffer.to_vec(media.py())?)
    } else {
        let kind = media.get_type().name()?;
        return Err(PyTypeError::new_err(format!("media are a path, bytes, a file open for reading, or an Audio, not {kind}")));
    };
    Ok(match track {
        Some(index) => input.track(index),
        None => input,
    })
}
