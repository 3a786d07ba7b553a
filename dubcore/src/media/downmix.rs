//! From many channels to the one that a recogniser hears.
//!
//! One or two channels: their mean. More, at known places: weighted as in ITU-R BS.775. The centre, which carries the
//! dialogue, counts full, left and right 3 dB less, surrounds and heights 6 dB less, the low-frequency effects not at all;
//! the weights are then scaled to a sum of 1, so that the mix cannot clip where the channels do not. That is what
//! `ffmpeg -ac 1` gives for 16-bit sound. More at unknown places: their mean.

use symphonia::core::audio::{ChannelLabel, Channels, Position};

/// How much of each channel goes into the mix; the sum is 1.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Downmix(Vec<f64>);

impl Downmix {
    /// Every one of `channels` counts the same.
    pub(super) fn mean(channels: usize) -> Self {
        Self(vec![1.0 / channels.max(1) as f64; channels])
    }

    /// The weights for a layout.
    pub(super) fn of(layout: &Channels) -> Self {
        let channels = layout.count();
        let weights: Option<Vec<f64>> = match layout {
            _ if channels <= 2 => None,
            Channels::Positioned(positions) => Some(positions.iter().map(weight).collect()),
            Channels::Custom(labels) => labels
                .iter()
                .map(|label| match label {
                    ChannelLabel::Positioned(position) => Some(weight(*position)),
                    _ => None,
                })
                .collect(),
            _ => None,
        };
        let Some(weights) = weights else { return Self::mean(channels) };
        let sum: f64 = weights.iter().sum();
        match sum > 0.0 {
            true => Self(weights.into_iter().map(|w| w / sum).collect()),
            false => Self::mean(channels),
        }
    }

    /// Appends the mix of interleaved frames.
    pub(super) fn mix(&self, interleaved: &[f32], out: &mut Vec<f32>) {
        if self.0.len() == 1 {
            return out.extend_from_slice(interleaved);
        }
        // In f64, because the sum of loud f32 channels can overflow where their mix does not.
        let mix = |frame: &[f32]| frame.iter().zip(&self.0).map(|(&s, w)| f64::from(s) * w).sum::<f64>() as f32;
        out.extend(interleaved.chunks_exact(self.0.len()).map(mix));
    }
}

fn weight(position: Position) -> f64 {
    const FRONT: Position = Position::FRONT_LEFT
        .union(Position::FRONT_RIGHT)
        .union(Position::FRONT_LEFT_CENTER)
        .union(Position::FRONT_RIGHT_CENTER)
        .union(Position::FRONT_LEFT_WIDE)
        .union(Position::FRONT_RIGHT_WIDE);
    const LOW: Position = Position::LFE1.union(Position::LFE2);
    match position {
        Position::FRONT_CENTER => 1.0,
        p if FRONT.contains(p) => std::f64::consts::FRAC_1_SQRT_2,
        p if LOW.contains(p) => 0.0,
        _ => 0.5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mixed(layout: Channels, frame: &[f32]) -> f32 {
        let mut out = Vec::new();
        Downmix::of(&layout).mix(frame, &mut out);
        assert_eq!(out.len(), 1);
        out[0]
    }

    #[test]
    fn the_centre_leads_and_effects_are_silent() {
        let surround = Channels::Positioned(Position::from_wave_channel_mask(0x3f).unwrap());
        // The weights of ffmpeg's matrix for 5.1 to mono.
        for (channel, want) in [0.207_107, 0.207_107, 0.292_893, 0.0, 0.146_447, 0.146_447].into_iter().enumerate() {
            let mut frame = [0.0; 6];
            frame[channel] = 1.0;
            assert!((mixed(surround.clone(), &frame) - want).abs() < 1e-6, "{channel}");
        }
        assert!((mixed(surround, &[1.0; 6]) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn few_channels_and_unknown_places_are_averaged() {
        let stereo = Channels::Positioned(Position::FRONT_LEFT | Position::FRONT_RIGHT);
        assert_eq!(mixed(stereo, &[1.0, 0.0]), 0.5);
        assert_eq!(mixed(Channels::Discrete(4), &[1.0, 0.0, 0.0, 0.0]), 0.25);
        assert_eq!(mixed(Channels::Positioned(Position::LFE1), &[0.75]), 0.75);
        assert_eq!(mixed(Channels::Ambisonic(1), &[1.0, 0.0, 0.0, 0.0]), 0.25);
        let far = ChannelLabel::Positioned(Position::FRONT_CENTER);
        let custom = Channels::from(vec![far, far, ChannelLabel::Positioned(Position::LFE1)]);
        assert_eq!(mixed(custom, &[1.0, 0.5, 9.0]), 0.75);
        assert_eq!(mixed(Channels::Discrete(3), &[f32::MAX; 3]), f32::MAX);
    }
}
