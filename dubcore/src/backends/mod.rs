//! The architectures, one file each. A new one is a file and a line in this list.

use crate::backend::Backend;

macro_rules! backends {
    ($($name:ident),* $(,)?) => {
        $(pub(crate) mod $name;)*
        /// Every architecture of this build.
        pub(crate) const ALL: &[Backend] = &[$($name::BACKEND),*];
    };
}

#[cfg(test)]
mod damage;
#[cfg(test)]
pub(crate) mod fixtures;

backends! {
    marian,
    vits,
    whisper,
}
