//! `cargo xtask install-c --prefix DIR`: the C library where programs find it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::shell::{Project, run};

/// What the Rust part of the static library asks of the system, on Linux with glibc.
pub(crate) const SYSTEM: &[&str] = &["-lgcc_s", "-lutil", "-lrt", "-lpthread", "-lm", "-ldl", "-lc"];

/// What the library's version is, and its number in the shared library's name.
struct Version {
    full: String,
    so: String,
}

impl Version {
    fn of(project: &Project) -> Result<Self> {
        let value = |file: &str, key: &str| {
            let text = std::fs::read_to_string(project.root.join(file)).with_context(|| file.to_owned())?;
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.trim().strip_prefix('='));
            line.map(|v| v.trim().trim_matches('"').to_owned()).with_context(|| format!("{file} has no {key}"))
        };
        Ok(Self { full: value("Cargo.toml", "version")?, so: value("dubcore-c/Cargo.toml", "so-version")? })
    }
}

/// Builds the library as it is meant to be used, and installs it.
pub(crate) fn install(project: &Project, prefix: &Path) -> Result<()> {
    ensure!(cfg!(target_os = "linux"), "install-c knows how shared libraries are named on Linux only");
    run(project.cargo("build").args(["--release", "--package", "dubcore-c"]))?;
    for file in lay(project, &project.target.join("release"), prefix)? {
        println!("{}", file.display());
    }
    Ok(())
}

/// In `include/`: those for C end in `.h`.
pub(crate) const HEADERS: [&str; 3] = ["dubcore.h", "dubcore.hpp", "dubcore_owner.hpp"];

/// Installs what lies in `built` below `prefix`; returns what was written. Everything finds the rest by where it lies itself,
/// so that the prefix may be moved.
pub(crate) fn lay(project: &Project, built: &Path, prefix: &Path) -> Result<Vec<PathBuf>> {
    let version = Version::of(project)?;
    let (lib, include) = (prefix.join("lib"), prefix.join("include"));
    let mut written = Vec::new();
    let mut put = |path: PathBuf, bytes: Vec<u8>, mode: u32| -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let folder = path.parent().context("a file lies in a folder")?;
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        // A program that has the old file open keeps it.
        let part = folder.join(".dubcore.part");
        std::fs::write(&part, bytes).with_context(|| format!("cannot write {}", part.display()))?;
        std::fs::set_permissions(&part, std::fs::Permissions::from_mode(mode))?;
        std::fs::rename(&part, &path).with_context(|| format!("cannot write {}", path.display()))?;
        written.push(path);
        Ok(())
    };
    let read = |path: PathBuf| std::fs::read(&path).with_context(|| format!("{} was not built", path.display()));
    let (real, soname) = (format!("libdubcore.so.{}", version.full), format!("libdubcore.so.{}", version.so));
    put(lib.join(&real), read(built.join("libdubcore.so"))?, 0o755)?;
    put(lib.join("libdubcore.a"), read(built.join("libdubcore.a"))?, 0o644)?;
    for header in HEADERS {
        put(include.join(header), read(project.root.join("include").join(header))?, 0o644)?;
    }
    put(lib.join("pkgconfig/dubcore.pc"), pkg_config(&version).into_bytes(), 0o644)?;
    put(lib.join("cmake/dubcore/dubcoreConfig.cmake"), cmake(&real, &soname).into_bytes(), 0o644)?;
    put(lib.join("cmake/dubcore/dubcoreConfigVersion.cmake"), cmake_version(&version).into_bytes(), 0o644)?;
    // What programs are linked to, and what they look for when they are.
    for (link, to) in [(&soname, &real), (&"libdubcore.so".to_owned(), &soname)] {
        let path = lib.join(link);
        if std::fs::symlink_metadata(&path).is_ok() {
            std::fs::remove_file(&path)?;
        }
        std::os::unix::fs::symlink(to, &path).with_context(|| format!("cannot make {}", path.display()))?;
        written.push(path);
    }
    Ok(written)
}

fn pkg_config(version: &Version) -> String {
    format!(
        "prefix=${{pcfiledir}}/../..\n\
         libdir=${{prefix}}/lib\n\
         includedir=${{prefix}}/include\n\
         \n\
         Name: dubcore\n\
         Description: Speech in one language in, speech in another out\n\
         URL: https://github.com/dubcore/dubcore\n\
         Version: {}\n\
         Libs: -L${{libdir}} -ldubcore\n\
         Libs.private: {}\n\
         Cflags: -I${{includedir}}\n",
        version.full,
        SYSTEM.join(" ")
    )
}

fn cmake(real: &str, soname: &str) -> String {
    let system: Vec<_> = SYSTEM.iter().map(|l| l.trim_start_matches("-l")).collect();
    format!(
        r#"# dubcore::dubcore is the shared library, dubcore::static the static one with what it asks of the system.
get_filename_component(_dubcore_prefix "${{CMAKE_CURRENT_LIST_DIR}}/../../.." ABSOLUTE)

if(NOT TARGET dubcore::dubcore)
    add_library(dubcore::dubcore SHARED IMPORTED)
    set_target_properties(dubcore::dubcore PROPERTIES
        IMPORTED_LOCATION "${{_dubcore_prefix}}/lib/{real}"
        IMPORTED_SONAME "{soname}"
        INTERFACE_INCLUDE_DIRECTORIES "${{_dubcore_prefix}}/include")

    add_library(dubcore::static STATIC IMPORTED)
    set_target_properties(dubcore::static PROPERTIES
        IMPORTED_LOCATION "${{_dubcore_prefix}}/lib/libdubcore.a"
        INTERFACE_INCLUDE_DIRECTORIES "${{_dubcore_prefix}}/include"
        INTERFACE_LINK_LIBRARIES "{}")
endif()
"#,
        system.join(";")
    )
}

/// Before 1.0 a minor version may break what was; from 1.0 on a major one.
fn cmake_version(version: &Version) -> String {
    let mut parts = version.full.split('.');
    let (major, minor) = (parts.next().unwrap_or("0"), parts.next().unwrap_or("0"));
    let line = if major == "0" { format!("0.{minor}") } else { major.to_owned() };
    let asked = if major == "0" {
        "\"${PACKAGE_FIND_VERSION_MAJOR}.${PACKAGE_FIND_VERSION_MINOR}\""
    } else {
        "\"${PACKAGE_FIND_VERSION_MAJOR}\""
    };
    format!(
        r#"set(PACKAGE_VERSION "{}")
set(PACKAGE_VERSION_COMPATIBLE FALSE)
if({asked} STREQUAL "{line}" AND NOT PACKAGE_FIND_VERSION VERSION_GREATER PACKAGE_VERSION)
    set(PACKAGE_VERSION_COMPATIBLE TRUE)
endif()
if(PACKAGE_FIND_VERSION VERSION_EQUAL PACKAGE_VERSION)
    set(PACKAGE_VERSION_EXACT TRUE)
endif()
"#,
        version.full
    )
}
