//! Hands on what Cargo.toml says of the ABI, and gives the shared library its SONAME, which Cargo does not.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=Cargo.toml");
    let manifest = std::fs::read_to_string("Cargo.toml").expect("Cargo.toml lies beside its build script");
    let number = |key: &str| {
        let line = manifest.lines().find_map(|line| line.strip_prefix(key)?.trim().strip_prefix('='));
        line.map(|value| value.trim().to_owned()).unwrap_or_else(|| panic!("Cargo.toml has no {key}"))
    };
    println!("cargo:rustc-env=DUB_ABI_VERSION={}", number("abi-version"));
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libdubcore.so.{}", number("so-version"));
    }
}
