//! Gives the shared library its SONAME, which Cargo does not.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // The number is `DUB_ABI_VERSION`'s line of compatible versions: it changes when a program linked to an older
    // library would break with this one.
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libdubcore.so.0");
    }
}
