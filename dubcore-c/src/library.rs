//! The library as a whole: its versions, and a dub in one call.

use std::ffi::c_char;
use std::path::Path;

use engine::{Job, Lang, Result};

use crate::door::{guard, run};
use crate::error::{Failure, Status};
use crate::handle;
use crate::text::{language, required};

/// The number in Cargo.toml, which the build script hands over.
const ABI_VERSION: u32 = match u32::from_str_radix(env!("DUB_ABI_VERSION"), 10) {
    Ok(version) => version,
    Err(_) => panic!("the ABI version in Cargo.toml is a whole number"),
};

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

/// How many handles the process has, of all kinds: where it does not come back to what it was, one was not freed.
#[unsafe(no_mangle)]
pub extern "C" fn dub_handles() -> usize {
    guard(0, handle::count)
}

/// Dubs one file with the models embedded in the library.
///
/// Reads the media file `input`, whose language is `from`, and writes into the directory `out_dir`, which is made if need be,
/// NAME.LANG.wav, .srt, .vtt and .json, where NAME is the input's name without its ending and LANG the code of `to`, and .srt
/// and .vtt of the original under its own code. Languages are BCP-47 or ISO 639 codes ("en", "es-MX", "spa"). `from` may be
/// NULL: the models' own.
///
/// Returns when the dub is done. On failure no file is left that looks finished.
///
/// Errors: as dub_pipeline_load, dub_run_start and dub_run_finish.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_file(
    input: *const c_char,
    from: *const c_char,
    to: *const c_char,
    out_dir: *const c_char,
    error: *mut Failure,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let (input, from) = (required(input, "input")?, language(from, "from")?);
            let (to, out_dir) = (required(to, "to")?, required(out_dir, "out_dir")?);
            one_file(Path::new(input), from, to.parse()?, Path::new(out_dir))
        })
    }
}

fn one_file(input: &Path, from: Option<Lang>, to: Lang, out_dir: &Path) -> Result<()> {
    engine::dub_file(input, to, from, out_dir, &Job::new()).map(drop)
}
