//! `include/dubcore.h` is what the source says. `BLESS=1 cargo xtask test c` writes it anew.

use std::path::Path;

#[test]
fn the_header_is_current() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let committed = here.join("../include/dubcore.h");
    let mut wanted = Vec::new();
    cbindgen::Builder::new()
        .with_config(cbindgen::Config::from_file(here.join("cbindgen.toml")).unwrap())
        .with_src(here.join("src/error.rs"))
        .with_src(here.join("src/lib.rs"))
        .generate()
        .unwrap()
        .write(&mut wanted);
    let wanted = String::from_utf8(wanted).unwrap();
    if std::env::var_os("BLESS").is_some_and(|v| v == "1") {
        std::fs::write(&committed, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&committed).unwrap_or_default();
    assert!(found == wanted, "include/dubcore.h is not what dubcore-c/src says: run `BLESS=1 cargo xtask test c`");
}
