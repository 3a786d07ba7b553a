//! The C face of dubcore.
//!
//! Every exported function goes through one of the two doors in [`door`]; the doc comments of the exported items are
//! the manual that cbindgen copies into `include/dubcore.h`.

#![allow(clippy::missing_safety_doc, reason = "the header's conventions are the safety contract of every function")]

mod door;
mod error;
mod text;

use std::ffi::c_char;
use std::path::Path;

use door::{guard, run};
use engine::{Job, Lang, Result};
use error::{Failure, Status};
use text::{optional, required};

/// The version of this header's contract. It grows by one whenever something is added. A program that needs a
/// function of version N checks `dub_abi_version() >= N`.
pub const ABI_VERSION: u32 = 1;

/// The version of the contract that the loaded library keeps: DUB_ABI_VERSION of the header it was built with.
#[unsafe(no_mangle)]
pub extern "C" fn dub_abi_version() -> u32 {
    ABI_VERSION
}

/// The version of the loaded library, such as "0.1.0". The text lives as long as the library is loaded.
#[unsafe(no_mangle)]
pub extern "C" fn dub_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// A place for the details of a failure, to be passed to other functions and freed with dub_error_free.
/// NULL only after a defect inside the library.
#[unsafe(no_mangle)]
pub extern "C" fn dub_error_new() -> *mut Failure {
    guard(std::ptr::null_mut(), || Box::into_raw(Box::new(Failure::default())))
}

/// Frees `error`, and with it the texts that it gave out. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_error_free(error: *mut Failure) {
    if !error.is_null() {
        // SAFETY: not NULL, so by the caller's promise it is a live Box of dub_error_new's.
        guard((), || drop(unsafe { Box::from_raw(error) }));
    }
}

/// The status of the call that last used `error`; DUB_STATUS_OK if none did.
/// DUB_STATUS_INVALID_ARGUMENT when `error` is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_error_status(error: *const Failure) -> Status {
    // SAFETY: NULL or live, by the caller's promise.
    unsafe { error.as_ref() }.map_or(Status::InvalidArgument, Failure::status)
}

/// The name of the status: "ok", "invalid_argument", "busy" and so on. It is never NULL, and belongs to `error` until
/// that is freed or passed to another call. For a NULL `error` it is "invalid_argument".
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_error_kind(error: *const Failure) -> *const c_char {
    // SAFETY: NULL or live, by the caller's promise.
    unsafe { error.as_ref() }.map_or(c"invalid_argument", Failure::kind).as_ptr()
}

/// What went wrong and what to do about it, with its causes, in one line for a person or a log; empty after a success.
/// It is never NULL, and belongs to `error` until that is freed or passed to another call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_error_message(error: *const Failure) -> *const c_char {
    // SAFETY: NULL or live, by the caller's promise.
    unsafe { error.as_ref() }.map_or(c"the error is NULL", Failure::message).as_ptr()
}

/// Dubs one file with the models embedded in the library.
///
/// Reads the media file `input`, whose language is `from` (NULL: the models' own), and writes into the directory
/// `out_dir`, which is made if need be, NAME.LANG.wav, .srt, .vtt and .json, where NAME is the input's name without its
/// ending and LANG the code of `to`, and .srt and .vtt of the original under its own code. Languages are BCP-47 or
/// ISO 639 codes ("en", "es-MX", "spa").
///
/// Returns when the dub is done. On failure no file is left that looks finished. `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_file(
    input: *const c_char,
    from: *const c_char,
    to: *const c_char,
    out_dir: *const c_char,
    error: *mut Failure,
) -> Status {
    let work = || {
        // SAFETY: the caller promises that each is NULL or a C string that outlives the call.
        let (input, from, to, out_dir) =
            unsafe { (required(input, "input")?, optional(from, "from")?, required(to, "to")?, required(out_dir, "out_dir")?) };
        let from: Option<Lang> = from.map(str::parse).transpose()?;
        one_file(Path::new(input), from, to.parse()?, Path::new(out_dir))
    };
    // SAFETY: `error` is NULL or live and ours alone during the call, by the caller's promise.
    unsafe { run(error, work) }
}

fn one_file(input: &Path, from: Option<Lang>, to: Lang, out_dir: &Path) -> Result<()> {
    engine::dub_file(input, to, from, out_dir, &Job::new()).map(drop)
}
