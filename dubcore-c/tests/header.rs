//! `include/dubcore.h` is what the source says. `BLESS=1 cargo xtask test c` writes it anew.

use std::path::Path;

/// The tables that the library reads options by.
#[allow(dead_code, unreachable_pub, reason = "only their manual is wanted here")]
#[path = "../src/options.rs"]
mod options;

const ABI_VERSION: &str = env!("DUB_ABI_VERSION");

/// In the order in which a reader wants them.
const SOURCES: [&str; 17] = [
    "error",
    "handle",
    "user",
    "library",
    "job",
    "document",
    "factory",
    "preload",
    "audio",
    "stt",
    "translator",
    "tts",
    "pipeline",
    "request",
    "run",
    "line",
    "result",
];

/// Behind them, what few hosts need.
const LAST: [&str; 3] = ["register", "own", "log"];

#[test]
fn the_header_is_current() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let committed = here.join("../include/dubcore.h");
    let mut config = cbindgen::Config::from_file(here.join("cbindgen.toml")).unwrap();
    config.after_includes = Some(macros() + "\n" + &options::manual());
    let sources = SOURCES.iter().chain(&LAST).map(|name| here.join(format!("src/{name}.rs")));
    let builder = sources.fold(cbindgen::Builder::new().with_config(config), |builder, source| builder.with_src(source));
    let mut wanted = Vec::new();
    builder.generate().unwrap().write(&mut wanted);
    let wanted = String::from_utf8(wanted).unwrap();
    if std::env::var_os("BLESS").is_some_and(|v| v == "1") {
        std::fs::write(&committed, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&committed).unwrap_or_default();
    assert!(found == wanted, "include/dubcore.h is not what dubcore-c/src says: run `BLESS=1 cargo xtask test c`");
}

/// What cbindgen has no words for.
fn macros() -> String {
    format!(
        r#"
/**
 * The version of the library that this header belongs to.
 */
#define DUB_VERSION "{version}"
#define DUB_VERSION_MAJOR {major}
#define DUB_VERSION_MINOR {minor}
#define DUB_VERSION_PATCH {patch}

/**
 * The version of this header's contract. It grows by one whenever something is added. A program that needs a
 * function of version N checks `dub_abi_version() >= N`.
 */
#define DUB_ABI_VERSION {ABI_VERSION}

/**
 * The handle of a type that stands for no object: DUB_NONE(dub_job).
 */
#ifdef __cplusplus
#define DUB_NONE(type) (type{{}})
#else
#define DUB_NONE(type) ((type){{0, 0, 0}})
#endif
"#,
        version = env!("CARGO_PKG_VERSION"),
        major = env!("CARGO_PKG_VERSION_MAJOR"),
        minor = env!("CARGO_PKG_VERSION_MINOR"),
        patch = env!("CARGO_PKG_VERSION_PATCH"),
    )
}
