//! config.json of a VITS voice, and what is asked of it before any of it is believed.

use serde::Deserialize;

use crate::audio::RATES;
use crate::error::Result;
use crate::nn::duration::StochasticSpec;
use crate::nn::flow::WaveNetSpec;
use crate::nn::hifigan::HifiGanSpec;
use crate::nn::layers::Activation;
use crate::nn::relative::RelativeSpec;
use crate::source::ModelFiles;

/// The keys that matter for speaking; those that are missing have the reference's defaults.
#[derive(Clone, Deserialize)]
#[serde(default)]
pub(super) struct Config {
    pub(super) vocab_size: usize,
    pub(super) hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    window_size: Option<usize>,
    use_bias: bool,
    ffn_dim: usize,
    ffn_kernel_size: usize,
    pub(super) flow_size: usize,
    hidden_act: String,
    layer_norm_eps: f64,
    pub(super) use_stochastic_duration_prediction: bool,
    pub(super) num_speakers: usize,
    speaker_embedding_size: usize,
    upsample_initial_channel: usize,
    upsample_rates: Vec<usize>,
    upsample_kernel_sizes: Vec<usize>,
    resblock_kernel_sizes: Vec<usize>,
    resblock_dilation_sizes: Vec<Vec<usize>>,
    leaky_relu_slope: f32,
    depth_separable_channels: usize,
    depth_separable_num_layers: usize,
    duration_predictor_flow_bins: usize,
    duration_predictor_tail_bound: f32,
    duration_predictor_kernel_size: usize,
    duration_predictor_num_flows: usize,
    duration_predictor_filter_channels: usize,
    pub(super) prior_encoder_num_flows: usize,
    prior_encoder_num_wavenet_layers: usize,
    wavenet_kernel_size: usize,
    wavenet_dilation_rate: usize,
    pub(super) speaking_rate: f64,
    pub(super) noise_scale: f64,
    pub(super) noise_scale_duration: f64,
    pub(super) sampling_rate: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            vocab_size: 38,
            hidden_size: 192,
            num_hidden_layers: 6,
            num_attention_heads: 2,
            window_size: Some(4),
            use_bias: true,
            ffn_dim: 768,
            ffn_kernel_size: 3,
            flow_size: 192,
            hidden_act: "relu".into(),
            layer_norm_eps: 1e-5,
            use_stochastic_duration_prediction: true,
            num_speakers: 1,
            speaker_embedding_size: 0,
            upsample_initial_channel: 512,
            upsample_rates: vec![8, 8, 2, 2],
            upsample_kernel_sizes: vec![16, 16, 4, 4],
            resblock_kernel_sizes: vec![3, 7, 11],
            resblock_dilation_sizes: vec![vec![1, 3, 5]; 3],
            leaky_relu_slope: 0.1,
            depth_separable_channels: 2,
            depth_separable_num_layers: 3,
            duration_predictor_flow_bins: 10,
            duration_predictor_tail_bound: 5.0,
            duration_predictor_kernel_size: 3,
            duration_predictor_num_flows: 4,
            duration_predictor_filter_channels: 256,
            prior_encoder_num_flows: 4,
            prior_encoder_num_wavenet_layers: 4,
            wavenet_kernel_size: 5,
            wavenet_dilation_rate: 1,
            speaking_rate: 1.0,
            noise_scale: 0.667,
            noise_scale_duration: 0.8,
            sampling_rate: 16_000,
        }
    }
}

/// No voice is near these; they keep products of sizes small.
const MAX_SIZE: usize = 1 << 16;
const MAX_LAYERS: usize = 256;
const MAX_WIDTH: usize = 1024;
const MAX_DILATION: usize = 4096;
/// From the first to the last step that a step of a convolution looks at: each thread pads its part by so many. The voices that
/// there are keep to 50.
const MAX_REACH: usize = 4096;

impl Config {
    pub(super) fn read(files: &ModelFiles) -> Result<Self> {
        let config: Self = files.json("config.json")?;
        config.check().map_err(|what| files.corrupt("config.json", &what))?;
        Ok(config)
    }

    fn check(&self) -> std::result::Result<(), String> {
        let within = |name: &str, value: usize, least: usize, most: usize| match (least..=most).contains(&value) {
            true => Ok(()),
            false => Err(format!("says {name} {value}, which is outside {least}..={most}")),
        };
        let must = |truth: bool, what: &str| if truth { Ok(()) } else { Err(what.to_string()) };
        for (name, value) in [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("num_attention_heads", self.num_attention_heads),
            ("ffn_dim", self.ffn_dim),
            ("flow_size", self.flow_size),
            ("num_speakers", self.num_speakers),
            ("upsample_initial_channel", self.upsample_initial_channel),
            ("duration_predictor_filter_channels", self.duration_predictor_filter_channels),
        ] {
            within(name, value, 1, MAX_SIZE)?;
        }
        within("speaker_embedding_size", self.speaker_embedding_size, 0, MAX_SIZE)?;
        within("window_size", self.window_size.unwrap_or(1), 1, MAX_WIDTH)?;
        within("num_hidden_layers", self.num_hidden_layers, 0, MAX_LAYERS)?;
        within("prior_encoder_num_flows", self.prior_encoder_num_flows, 0, MAX_LAYERS)?;
        within("prior_encoder_num_wavenet_layers", self.prior_encoder_num_wavenet_layers, 1, MAX_LAYERS)?;
        within("ffn_kernel_size", self.ffn_kernel_size, 1, MAX_WIDTH)?;
        must(
            self.hidden_size.is_multiple_of(self.num_attention_heads),
            "says num_attention_heads that do not divide hidden_size",
        )?;
        must(self.flow_size.is_multiple_of(2), "says an odd flow_size")?;
        must(self.num_speakers == 1 || self.speaker_embedding_size > 0, "says several speakers but speaker_embedding_size 0")?;
        must(self.layer_norm_eps.is_finite() && self.layer_norm_eps > 0.0, "says a layer_norm_eps that is not positive")?;

        odd("wavenet_kernel_size", self.wavenet_kernel_size)?;
        odd("duration_predictor_kernel_size", self.duration_predictor_kernel_size)?;
        within("wavenet_dilation_rate", self.wavenet_dilation_rate, 1, MAX_DILATION)?;
        let deepest = self.wavenet_dilation_rate.saturating_pow(self.prior_encoder_num_wavenet_layers as u32 - 1);
        within("a WaveNet dilation", deepest, 1, MAX_DILATION)?;
        near("wavenet_kernel_size", self.wavenet_kernel_size, deepest)?;
        if self.use_stochastic_duration_prediction {
            must(self.depth_separable_channels == 2, "says depth_separable_channels other than 2")?;
            within("depth_separable_num_layers", self.depth_separable_num_layers, 1, MAX_LAYERS)?;
            within("duration_predictor_num_flows", self.duration_predictor_num_flows, 0, MAX_LAYERS)?;
            let deepest = self.duration_predictor_kernel_size.saturating_pow(self.depth_separable_num_layers as u32 - 1);
            within("a duration predictor's dilation", deepest, 1, MAX_DILATION)?;
            near("duration_predictor_kernel_size", self.duration_predictor_kernel_size, deepest)?;
            let bound = self.duration_predictor_tail_bound;
            must(bound.is_finite() && bound > 0.0, "says a duration_predictor_tail_bound that is not positive")?;
        }

        let stages = self.upsample_rates.len();
        within("the number of upsample_rates", stages, 1, 16)?;
        must(self.upsample_kernel_sizes.len() == stages, "does not say one of upsample_kernel_sizes per upsample_rate")?;
        must(self.upsample_initial_channel >> stages > 0, "halves upsample_initial_channel away")?;
        for (&rate, &width) in self.upsample_rates.iter().zip(&self.upsample_kernel_sizes) {
            within("an upsample_rate", rate, 1, MAX_WIDTH)?;
            within("an upsample_kernel_size", width, rate, MAX_WIDTH)?;
            must((width - rate).is_multiple_of(2), "says an upsample_kernel_size that differs from its rate by an odd number")?;
        }
        let hop = self.upsample_rates.iter().try_fold(1usize, |hop, rate| hop.checked_mul(*rate)).unwrap_or(usize::MAX);
        within("the product of upsample_rates", hop, 1, MAX_SIZE)?;
        let blocks = self.resblock_kernel_sizes.len();
        within("the number of resblock_kernel_sizes", blocks, 1, 16)?;
        must(self.resblock_dilation_sizes.len() == blocks, "does not say one list of resblock_dilation_sizes per block")?;
        self.resblock_kernel_sizes.iter().try_for_each(|width| odd("a resblock_kernel_size", *width))?;
        for (&width, dilations) in self.resblock_kernel_sizes.iter().zip(&self.resblock_dilation_sizes) {
            within("the number of a block's resblock_dilation_sizes", dilations.len(), 1, 16)?;
            for &dilation in dilations {
                within("a resblock_dilation_size", dilation, 1, MAX_DILATION)?;
                near("a resblock_kernel_size", width, dilation)?;
            }
        }
        must((0.0..=1.0).contains(&self.leaky_relu_slope), "says a leaky_relu_slope outside 0..=1")?;

        must(RATES.contains(&self.sampling_rate), "says a sampling_rate that no sound has")?;
        must((0.05..=20.0).contains(&self.speaking_rate), "says a speaking_rate outside 0.05..=20")?;
        must((0.0..=10.0).contains(&self.noise_scale), "says a noise_scale outside 0..=10")?;
        must((0.0..=10.0).contains(&self.noise_scale_duration), "says a noise_scale_duration outside 0..=10")
    }

    /// Channels of the speaker's vector: 0 unless there is a choice of speakers, for then it is never used.
    pub(super) fn speaker(&self) -> usize {
        if self.num_speakers > 1 { self.speaker_embedding_size } else { 0 }
    }

    pub(super) fn encoder(&self) -> Result<RelativeSpec> {
        Ok(RelativeSpec {
            channels: self.hidden_size,
            heads: self.num_attention_heads,
            layers: self.num_hidden_layers,
            window: self.window_size,
            bias: self.use_bias,
            ffn: self.ffn_dim,
            ffn_width: self.ffn_kernel_size,
            activation: Activation::parse(&self.hidden_act)?,
            eps: self.layer_norm_eps,
            prior: self.flow_size,
        })
    }

    /// Channels, filters and speaker channels, width and epsilon of the deterministic predictor.
    pub(super) fn durations(&self) -> ((usize, usize, usize), usize, f64) {
        let sizes = (self.hidden_size, self.duration_predictor_filter_channels, self.speaker());
        (sizes, self.duration_predictor_kernel_size, self.layer_norm_eps)
    }

    pub(super) fn stochastic(&self) -> StochasticSpec {
        StochasticSpec {
            channels: self.hidden_size,
            width: self.duration_predictor_kernel_size,
            layers: self.depth_separable_num_layers,
            flows: self.duration_predictor_num_flows,
            bins: self.duration_predictor_flow_bins,
            bound: self.duration_predictor_tail_bound,
            speaker: self.speaker(),
        }
    }

    pub(super) fn wavenet(&self) -> WaveNetSpec {
        WaveNetSpec {
            channels: self.hidden_size,
            layers: self.prior_encoder_num_wavenet_layers,
            width: self.wavenet_kernel_size,
            dilation_rate: self.wavenet_dilation_rate,
            speaker: self.speaker(),
        }
    }

    pub(super) fn decoder(&self) -> HifiGanSpec {
        let blocks = self.resblock_kernel_sizes.iter().copied().zip(self.resblock_dilation_sizes.iter().cloned());
        HifiGanSpec {
            input: self.flow_size,
            channels: self.upsample_initial_channel,
            rates: self.upsample_rates.clone(),
            widths: self.upsample_kernel_sizes.clone(),
            blocks: blocks.collect(),
            slope: self.leaky_relu_slope,
            speaker: self.speaker(),
        }
    }
}

/// A convolution whose output is as long as its input has an odd number of taps.
fn odd(name: &str, width: usize) -> std::result::Result<(), String> {
    match width % 2 == 1 && width <= MAX_WIDTH {
        true => Ok(()),
        false => Err(format!("says {name} {width}, which is not an odd number up to {MAX_WIDTH}")),
    }
}

/// A convolution looks no further than [`MAX_REACH`]. Width and dilation were found within their own bounds.
fn near(name: &str, width: usize, dilation: usize) -> std::result::Result<(), String> {
    let reach = (width - 1) * dilation;
    match reach <= MAX_REACH {
        true => Ok(()),
        false => Err(format!("says {name} {width}, {dilation} apart: a reach of {reach}, which is outside 0..={MAX_REACH}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_convolution_that_reaches_too_far_is_named() {
        let block = |width, dilation| Config {
            resblock_kernel_sizes: vec![3, width],
            resblock_dilation_sizes: vec![vec![1], vec![1, dilation]],
            ..Config::default()
        };
        let wavenet = |width, rate, layers| Config {
            wavenet_kernel_size: width,
            wavenet_dilation_rate: rate,
            prior_encoder_num_wavenet_layers: layers,
            ..Config::default()
        };
        let durations = |width, layers| Config {
            duration_predictor_kernel_size: width,
            depth_separable_num_layers: layers,
            ..Config::default()
        };
        let all = [block(1, 4096), block(3, 2048), block(1023, 4), wavenet(5, 2, 11), wavenet(1023, 1, 4), durations(3, 7)];
        for config in [Config::default()].iter().chain(&all) {
            assert_eq!(config.check(), Ok(()));
        }
        for (config, name) in [
            (block(3, 2049), "resblock_kernel_size 3,"),
            (block(1023, 4096), "resblock_kernel_size 1023,"),
            (wavenet(5, 2, 12), "wavenet_kernel_size 5,"),
            (wavenet(1023, 4096, 2), "wavenet_kernel_size 1023,"),
            (durations(3, 8), "duration_predictor_kernel_size 3,"),
        ] {
            let what = config.check().unwrap_err();
            assert!(what.contains(name), "{what}");
        }
    }
}
