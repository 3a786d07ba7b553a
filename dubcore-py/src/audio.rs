//! Sound that crosses between Python and the engine.

use std::ffi::{CStr, c_int, c_void};
use std::path::PathBuf;

use dubcore::media::{self, Limits, WavFormat};
use dubcore::{Audio as Sound, Span};
use pyo3::buffer::{Element, PyBuffer, PyUntypedBuffer};
use pyo3::exceptions::{PyBufferError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};

use crate::call::{Call, Control};
use crate::error::to_py;
use crate::input::input;

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Audio>()
}

/// Mono sound: 32-bit floats, nominally -1 to 1, at so many samples per second. It never changes; memoryview(audio) and
/// numpy.asarray(audio) look at its samples without a copy.
#[pyclass(frozen, module = "dubcore", name = "Audio")]
pub(crate) struct Audio(pub(crate) Sound);

/// Bytes of a Python object, which nobody can change, as samples.
struct Borrowed(Py<PyBytes>, *const f32, usize);

// SAFETY: a bytes object never changes or moves, and is kept alive by its reference, which any thread may drop.
unsafe impl Send for Borrowed {}
// SAFETY: as above.
unsafe impl Sync for Borrowed {}

impl AsRef<[f32]> for Borrowed {
    fn as_ref(&self) -> &[f32] {
        let _ = &self.0;
        // SAFETY: pointer and length are those of the bytes object that `self` keeps alive; alignment was checked.
        unsafe { std::slice::from_raw_parts(self.1, self.2) }
    }
}

#[pymethods]
impl Audio {
    /// Samples at `rate` Hz: bytes of native 32-bit floats, which are not copied; or anything that has a buffer (a NumPy array,
    /// array.array, memoryview) of floats, or of integers whose range is then -1 to 1, with one dimension or two, time first,
    /// whose channels are averaged; or a list or tuple of numbers.
    #[new]
    fn new(samples: &Bound<'_, PyAny>, rate: u32) -> PyResult<Self> {
        let py = samples.py();
        let raise = |e: dubcore::Error| to_py(py, &e);
        if let Ok(bytes) = samples.cast::<PyBytes>() {
            let data = bytes.as_bytes();
            if data.len() % 4 != 0 {
                return Err(PyTypeError::new_err(format!("{} bytes are no whole number of 32-bit floats", data.len())));
            }
            if data.as_ptr().cast::<f32>().is_aligned() {
                let owner = Borrowed(bytes.clone().unbind(), data.as_ptr().cast(), data.len() / 4);
                return Sound::shared(owner, rate).map(Self).map_err(raise);
            }
            let values = data.as_chunks::<4>().0.iter().map(|b| f32::from_ne_bytes(*b)).collect();
            return Sound::new(values, rate).map(Self).map_err(raise);
        }
        let values = match PyUntypedBuffer::get(samples) {
            Ok(buffer) => from_buffer(samples, &buffer)?,
            Err(_) if samples.is_instance_of::<PyList>() || samples.is_instance_of::<PyTuple>() => {
                samples.extract::<Vec<f32>>()?
            }
            Err(_) => {
                let kind = samples.get_type().name()?;
                return Err(PyTypeError::new_err(format!(
                    "samples are bytes, a buffer, a list or a tuple of numbers, not {kind}"
                )));
            }
        };
        Sound::new(values, rate).map(Self).map_err(raise)
    }

    /// The first sound track of a file, or the one with that number, decoded: a path, bytes, or a file open for reading.
    #[staticmethod]
    #[pyo3(signature = (media, track, control))]
    fn _load(media: &Bound<'_, PyAny>, track: Option<usize>, control: Control) -> PyResult<Call> {
        let input = input(media, track)?;
        let convert = |py: Python<'_>, sound| Ok(Py::new(py, Self(sound))?.into_any());
        Call::start(media.py(), control.ticket()?, move |job| media::decode(&input, &Limits::default(), job), convert)
    }

    /// Samples per second.
    #[getter]
    fn rate(&self) -> u32 {
        self.0.rate()
    }

    /// Length in seconds.
    #[getter]
    fn duration(&self) -> f64 {
        self.0.duration().as_secs_f64()
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }

    fn __repr__(&self) -> String {
        format!("Audio({:.2} s at {} Hz)", self.duration(), self.0.rate())
    }

    fn __eq__(&self, other: &Self) -> bool {
        self.0.rate() == other.0.rate() && self.0.samples() == other.0.samples()
    }

    /// The part from `start` to `end`, in seconds; it shares the samples.
    fn slice(&self, py: Python<'_>, start: f64, end: f64) -> PyResult<Self> {
        let time = |seconds: f64| {
            std::time::Duration::try_from_secs_f64(seconds.max(0.0))
                .map_err(|e| to_py(py, &dubcore::Error::new(dubcore::ErrorKind::InvalidArgument, format!("{seconds} s: {e}"))))
        };
        let (start, end) = (time(start)?, time(end)?);
        Ok(Self(self.0.slice(Span::new(start, end.max(start)))))
    }

    /// The same sound at `rate` Hz.
    fn resample(&self, py: Python<'_>, rate: u32) -> PyResult<Self> {
        let sound = self.0.clone();
        py.detach(move || sound.resample(rate)).map(Self).map_err(|e| to_py(py, &e))
    }

    /// Writes a WAV file of 16-bit integers, or of 32-bit floats where `float` is true.
    #[pyo3(signature = (path, *, float = false))]
    fn save(&self, py: Python<'_>, path: PathBuf, float: bool) -> PyResult<()> {
        let (sound, format) = (self.0.clone(), if float { WavFormat::F32 } else { WavFormat::I16 });
        py.detach(move || media::write_wav(&path, &sound, format)).map_err(|e| to_py(py, &e))
    }

    /// The samples as bytes of native 32-bit floats.
    fn tobytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let bytes: Vec<u8> = self.0.samples().iter().flat_map(|s| s.to_ne_bytes()).collect();
        PyBytes::new(py, &bytes)
    }

    fn __getnewargs__<'py>(&self, py: Python<'py>) -> (Bound<'py, PyBytes>, u32) {
        (self.tobytes(py), self.0.rate())
    }

    /// # Safety
    /// Called by Python, with a view to fill.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        const FORMAT: &CStr = c"f";
        if view.is_null() || (flags & ffi::PyBUF_WRITABLE) == ffi::PyBUF_WRITABLE {
            return Err(PyBufferError::new_err("the samples of an Audio cannot be changed"));
        }
        let samples = slf.get().0.samples();
        let shape = Box::new([samples.len() as ffi::Py_ssize_t, 4]);
        // SAFETY: Python gave the view, which is filled before anyone reads it. The samples never change or move as long as
        // the view holds its reference; `shape` lives until `__releasebuffer__`.
        unsafe {
            (*view).buf = samples.as_ptr().cast_mut().cast();
            (*view).len = (samples.len() * 4) as ffi::Py_ssize_t;
            (*view).readonly = 1;
            (*view).itemsize = 4;
            (*view).format = if flags & ffi::PyBUF_FORMAT != 0 { FORMAT.as_ptr().cast_mut() } else { std::ptr::null_mut() };
            (*view).ndim = 1;
            let shape = Box::into_raw(shape).cast::<ffi::Py_ssize_t>();
            (*view).internal = shape.cast::<c_void>();
            (*view).shape = if flags & ffi::PyBUF_ND != 0 { shape } else { std::ptr::null_mut() };
            (*view).strides = if flags & ffi::PyBUF_STRIDES == ffi::PyBUF_STRIDES { shape.add(1) } else { std::ptr::null_mut() };
            (*view).suboffsets = std::ptr::null_mut();
            (*view).obj = slf.into_ptr();
        }
        Ok(())
    }

    /// # Safety
    /// Called by Python, with a view that `__getbuffer__` filled.
    unsafe fn __releasebuffer__(&self, view: *mut ffi::Py_buffer) {
        // SAFETY: `internal` is the box that `__getbuffer__` made for this view, released once.
        drop(unsafe { Box::from_raw((*view).internal.cast::<[ffi::Py_ssize_t; 2]>()) });
    }
}

/// The values of a buffer, channels averaged.
fn from_buffer(samples: &Bound<'_, PyAny>, buffer: &PyUntypedBuffer) -> PyResult<Vec<f32>> {
    fn read<T: Element>(samples: &Bound<'_, PyAny>, scale: fn(T) -> f32) -> PyResult<Vec<f32>> {
        let (py, buffer) = (samples.py(), PyBuffer::<T>::get(samples)?);
        match buffer.as_slice_ptr() {
            Some(values) => {
                let first = values.cast::<T>();
                // SAFETY: `buffer` holds these aligned values, any bits of which are one. Each is read once and never lent, for
                // another thread may write meanwhile, as it may while `memcpy` copies: what is read then is old or new.
                Ok((0..values.len()).map(|i| scale(unsafe { first.add(i).read_volatile() })).collect())
            }
            None => Ok(buffer.to_vec(py)?.into_iter().map(scale).collect()),
        }
    }
    let format = buffer.format().to_str().unwrap_or_default();
    let plain = format.trim_start_matches(['@', '=', '<']);
    let mut values = match (plain, buffer.item_size()) {
        ("f", 4) => read::<f32>(samples, |v| v),
        ("d", 8) => read::<f64>(samples, |v| v as f32),
        ("h", 2) => read::<i16>(samples, |v| f32::from(v) / 32_768.0),
        ("i" | "l", 4) => read::<i32>(samples, |v| (f64::from(v) / 2_147_483_648.0) as f32),
        ("B", 1) => read::<u8>(samples, |v| (f32::from(v) - 128.0) / 128.0),
        _ => Err(PyTypeError::new_err(format!(
            "samples of the type {format:?} are not read: use float32, float64, int16, int32 or uint8"
        ))),
    }?;
    match *buffer.shape() {
        [_] => Ok(values),
        [_, channels] if channels > 0 => {
            let frames = values.len() / channels;
            for i in 0..frames {
                values[i] = values[i * channels..][..channels].iter().sum::<f32>() / channels as f32;
            }
            values.truncate(frames);
            values.shrink_to_fit();
            Ok(values)
        }
        ref shape => {
            Err(PyTypeError::new_err(format!("samples of the shape {shape:?}: want one dimension, or time and channels")))
        }
    }
}

/// Sound that was given to a stage: an [`Audio`], or media to be decoded.
pub(crate) enum Given {
    Sound(Sound),
    Media(dubcore::media::Input),
}

impl Given {
    pub(crate) fn extract(given: &Bound<'_, PyAny>) -> PyResult<Self> {
        match given.cast::<Audio>() {
            Ok(audio) => Ok(Self::Sound(audio.get().0.clone())),
            Err(_) => input(given, None).map(Self::Media),
        }
    }

    pub(crate) fn decode(self, job: &dubcore::Job) -> dubcore::Result<Sound> {
        match self {
            Self::Sound(sound) => Ok(sound),
            Self::Media(input) => media::decode(&input, &Limits::default(), &job.quiet()),
        }
    }
}
