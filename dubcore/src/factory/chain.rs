//! What is used in place of what: another device, then another model.

use std::fmt;
use std::sync::Arc;

use super::{Factory, Lease, LoadMode, LoadOptions};
use crate::compute::ComputeType;
use crate::device::Device;
use crate::error::{Error, ErrorKind, Result};
use crate::key::ModelKey;
use crate::nn;
use crate::source::ModelRef;
use crate::stage::FellBack;

/// A set of weights: what differs only in how it is used shares one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Id {
    pub(super) model: ModelRef,
    pub(super) device: Device,
    /// Never [`ComputeType::Auto`].
    pub(super) compute_type: ComputeType,
}

/// What to use, in this order.
pub(super) type Chain = Arc<[Id]>;

/// What was got, its place in the chain, and, if that is not the first one, why.
pub(super) type Got = (Lease, usize, Option<FellBack>);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.device {
            Device::Cpu => self.model.fmt(f),
            device => write!(f, "{} on {device}", self.model),
        }
    }
}

impl Id {
    pub(super) fn is(&self, key: &ModelKey) -> bool {
        key.model == self.model && key.device == self.device && key.compute_type == self.compute_type.to_string()
    }

    /// That `other` did this one's work.
    pub(super) fn fell_back(&self, other: &Self, why: &Error) -> FellBack {
        let name = |id: &Self| match self.device == other.device {
            true => id.model.to_string(),
            false => format!("{} on {}", id.model, id.device),
        };
        FellBack { from: name(self), to: name(other), why: why.report() }
    }
}

/// Whether it tells of the device, and not of the model or of the request: elsewhere the same may work.
pub(super) fn of_the_device(e: &Error) -> bool {
    matches!(e.kind(), ErrorKind::OutOfMemory | ErrorKind::DeviceUnavailable)
}

impl Factory {
    /// What to use for `model`.
    pub(super) fn chain(&self, model: &ModelRef, opts: &LoadOptions) -> Result<Chain> {
        let own = (opts.mode != LoadMode::Fallback).then_some(model);
        let others = if opts.mode == LoadMode::Memory { &[][..] } else { &opts.fallback };
        let ids: Vec<Vec<Id>> = own.into_iter().chain(others).map(|m| self.ids(m, opts)).collect::<Result<_>>()?;
        match ids.is_empty() {
            false => Ok(ids.concat().into()),
            true => Err(Error::argument(format!("model {model} is to be spared, and there is nothing to fall back to"))),
        }
    }

    /// One model on the devices that may run it, in the order of preference.
    pub(super) fn ids(&self, model: &ModelRef, opts: &LoadOptions) -> Result<Vec<Id>> {
        let model = self.shared.names.resolve(model)?;
        // Where the host's own run, and in what, is the host's matter.
        let own = self.is_own(&model);
        let device = if own { Device::Cpu } else { self.shared.places.resolve(opts.device) };
        let compute_type = |device| match opts.compute_type {
            _ if own => ComputeType::F32,
            ComputeType::Auto => nn::settle(self.shared.compute_type, device),
            asked => asked,
        };
        let spare = device != Device::Cpu && opts.mode != LoadMode::Memory;
        let devices = [Some(device), spare.then_some(Device::Cpu)];
        let id = |device| Id { model: model.clone(), device, compute_type: compute_type(device) };
        Ok(devices.into_iter().flatten().map(id).collect())
    }

    pub(super) fn is_own(&self, model: &ModelRef) -> bool {
        self.shared.names.maker(model).is_some()
    }

    /// The first of `chain` that can be had and, if a kind of stage is named, is of that kind.
    pub(super) fn lease_first(
        &self,
        chain: &[Id],
        kind: Option<&'static str>,
        lease: impl Fn(&Id) -> Result<Lease>,
    ) -> Result<Got> {
        let mut failed: Vec<(&Id, Error)> = Vec::new();
        for (i, id) in chain.iter().enumerate() {
            let last = i + 1 == chain.len();
            // Who has something to fall back to does not load what failed a moment ago.
            let known = if last { None } else { self.live().failed_lately(id) };
            let found = match known {
                Some(e) => Err(e),
                None => lease(id).and_then(|l| match (l.item().loaded.stage.kind(), kind) {
                    (found, Some(kind)) if found != kind => Err(Error::new(
                        ErrorKind::ModelIncompatible,
                        format!("model {} is a {found}, not a {kind}: name a model made for that stage", id.model),
                    )),
                    _ => Ok(l),
                }),
            };
            match found {
                Ok(lease) => {
                    let why = failed.first().map(|(first, e)| first.fell_back(id, e));
                    return Ok((lease, i, why));
                }
                // The caller's own end is nobody's failure.
                Err(e) if matches!(e.kind(), ErrorKind::Cancelled | ErrorKind::DeadlineExceeded) => return Err(e),
                Err(e) => {
                    if of_the_device(&e) && !last {
                        tracing::warn!("{id} cannot be used: {}", e.report());
                    }
                    failed.push((id, e));
                }
            }
        }
        match (chain.len(), failed.pop()) {
            (1, Some((_, e))) => Err(e),
            (_, Some((id, e))) => {
                failed.push((id, e.clone()));
                let tried: Vec<_> = failed.iter().map(|(id, e)| format!("{id} ({e})")).collect();
                let fits = |found: &str| kind.is_none_or(|kind| kind == found);
                let there = self.live().shelf.look(|s| fits(s.item.loaded.stage.kind()).then(|| s.item.id.to_string())).0;
                let there: Vec<String> = there.into_iter().flatten().collect();
                let there = if there.is_empty() { "none".into() } else { there.join(", ") };
                let kind = kind.unwrap_or("model");
                let what = format!("no {kind} of those asked for can be loaded: {}; loaded are: {there}", tried.join("; "));
                Err(Error::new(e.kind(), what).with_source(e))
            }
            (_, None) => Err(Error::internal("there is no model to lease")),
        }
    }
}
