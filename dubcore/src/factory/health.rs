//! Whether a factory can do its work.

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::{Factory, Live};
use crate::backends;
use crate::device::DeviceMemory;
use crate::error::{Error, ErrorKind};
use crate::source::{HubOptions, Installed, ModelRef};

/// Less free space than this is too little for results.
const LITTLE_SPACE: u64 = 64 << 20;

/// Whether a factory can do its work: for a host's health check.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// Everything works.
    Healthy,
    /// Some of it does not: a model cannot be loaded, a GPU failed, or results cannot be kept on disk.
    Degraded,
    /// No model that was asked for can be loaded.
    Unhealthy,
}

/// What a health check finds.
#[non_exhaustive]
#[derive(Clone, Debug, Serialize)]
pub struct Health {
    /// All in all.
    pub status: HealthStatus,
    /// The models that are loaded, or that could not be when they were last asked for.
    pub models: Vec<ModelHealth>,
    /// The devices, and their memory.
    pub devices: Vec<DeviceMemory>,
    /// The folder of results, if there is one.
    pub disk: Option<DiskHealth>,
    /// What this build does not do, whatever its input says.
    pub security: Security,
    /// When, in seconds since 1970.
    pub timestamp: f64,
}

/// A model's health.
#[non_exhaustive]
#[derive(Clone, Debug, Serialize)]
pub struct ModelHealth {
    /// Which.
    pub model: ModelRef,
    /// Whether it is loaded.
    pub loaded: bool,
    /// Whether it could be loaded when it was last asked for.
    pub healthy: bool,
    /// Why not.
    pub error: Option<String>,
    /// The names that share its weights.
    pub shared_with: Vec<String>,
}

/// The health of a folder of results.
#[non_exhaustive]
#[derive(Clone, Debug, Serialize)]
pub struct DiskHealth {
    /// Which.
    pub folder: PathBuf,
    /// Bytes that are free there, where the system tells.
    pub free: Option<u64>,
    /// Writes that failed since the beginning.
    pub failures: u64,
    /// Whether results can be kept there.
    pub healthy: bool,
}

/// What is so by construction.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Security {
    /// Whether anything is fetched from a network.
    pub downloads: bool,
    /// Whether code that comes with a model is run.
    pub remote_code: bool,
    /// Whether files are mapped into memory while in use, so that a change of theirs is a signal.
    pub mapped_files: bool,
    /// Whether links may lead out of a model's folder.
    pub links_followed: bool,
}

impl Factory {
    /// The models that are on this machine, so that they load without a network: the embedded ones, those in
    /// [`FactoryBuilder::models_dir`](crate::FactoryBuilder::models_dir), and those in the hub's cache. Looks, and loads nothing.
    pub fn installed(&self) -> Vec<Installed> {
        let known: Vec<&str> = backends::ALL.iter().flat_map(|b| b.model_types).copied().collect();
        self.shared.sources.installed(&known)
    }

    /// Where models of the hub come from, and where they are kept.
    pub fn hub(&self) -> &HubOptions {
        &self.shared.sources.hub
    }

    /// Whether it can do its work. Looks, and loads nothing.
    pub fn health(&self) -> Health {
        let live = self.live();
        let mut models: Vec<ModelHealth> = Vec::new();
        let model = |model: &ModelRef, error: Option<&Error>| ModelHealth {
            model: model.clone(),
            loaded: error.is_none(),
            healthy: error.is_none(),
            error: error.map(Error::report),
            shared_with: self.shared.names.of(model),
        };
        for resident in live.shelf.look(super::resident).0 {
            models.push(model(&resident.key.model, None));
        }
        for (id, (error, _)) in live.failures.lock().iter() {
            models.push(model(&id.model, Some(error)));
        }
        models.sort_by_key(|m| m.model.to_string());
        let disk = self.results().and_then(|results| {
            let folder = results.folder()?.to_path_buf();
            let free = rustix::fs::statvfs(&folder).ok().map(|s| s.f_bavail.saturating_mul(s.f_frsize));
            let failures = results.status().disk_failures;
            Some(DiskHealth {
                healthy: free.is_none_or(|f| f >= LITTLE_SPACE) && !results.disk_is_failing(),
                folder,
                free,
                failures,
            })
        });
        let devices = self.shared.places.memory();
        let bad = models.iter().filter(|m| !m.healthy).count();
        let status = match () {
            () if bad > 0 && bad == models.len() => HealthStatus::Unhealthy,
            () if bad > 0 || devices.iter().any(|d| d.failed) || disk.as_ref().is_some_and(|d| !d.healthy) => {
                HealthStatus::Degraded
            }
            () => HealthStatus::Healthy,
        };
        let downloads = self.shared.sources.hub.downloads_allowed();
        let security = Security { downloads, remote_code: false, mapped_files: false, links_followed: false };
        let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64();
        Health { status, models, devices, disk, security, timestamp }
    }
}

/// A model that could not be loaded is not tried again for so long, where there is another one.
const RETRY: Duration = Duration::from_secs(30);

impl Live {
    /// Why the model could not be loaded, if that was a moment ago.
    pub(super) fn failed_lately(&self, id: &super::Id) -> Option<Error> {
        let failures = self.failures.lock();
        failures.get(id).filter(|(_, when)| when.elapsed() < RETRY).map(|(e, _)| e.clone())
    }

    /// Takes down how a load went. What a host's own limits refuse says nothing about the model.
    pub(super) fn note_load(&self, id: &super::Id, error: Option<&Error>) {
        let mut failures = self.failures.lock();
        match error {
            Some(e) if e.kind() != ErrorKind::OutOfMemory => drop(failures.insert(id.clone(), (e.clone(), Instant::now()))),
            _ => drop(failures.remove(id)),
        }
        // Names that somebody makes up must not grow it without end.
        while failures.len() > 1_000 {
            let Some(any) = failures.keys().next().cloned() else { break };
            failures.remove(&any);
        }
    }
}
