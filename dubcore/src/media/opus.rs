//! Opus as a decoder of symphonia's, which has none: the header by RFC 7845, the packets by `ropus`.

use ropus::OpusMSDecoder;
use symphonia::core::audio::{
    AsGenericAudioBufferRef, AudioBuffer, AudioMut, AudioSpec, Channels, GenericAudioBufferRef, Position,
};
use symphonia::core::codecs::CodecInfo;
use symphonia::core::codecs::audio::well_known::CODEC_ID_OPUS;
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions, FinalizeResult};
use symphonia::core::codecs::registry::{RegisterableAudioDecoder, SupportedAudioCodec};
use symphonia::core::errors::{Result, decode_error, unsupported_error};
use symphonia::core::packet::PacketRef;

/// Opus is decoded at 48 kHz, whatever went in.
const RATE: u32 = 48_000;
/// Most frames of a packet: 120 ms.
const MAX_FRAMES: usize = 5760;

/// The codec, for the registry and the messages.
static SUPPORTED: [SupportedAudioCodec; 1] =
    [SupportedAudioCodec { id: CODEC_ID_OPUS, info: CodecInfo { short_name: "opus", long_name: "Opus", profiles: &[] } }];

/// The identification header.
#[derive(Debug, PartialEq, Eq)]
struct Head<'a> {
    channels: u8,
    pre_skip: u16,
    /// In 1/256 dB.
    gain: i16,
    family: u8,
    streams: u8,
    coupled: u8,
    mapping: &'a [u8],
}

/// The numbers in Ogg's and Matroska's header are little-endian and its version is 1; MP4 has the same header with version
/// 0 and big-endian numbers.
fn head(data: &[u8]) -> Option<Head<'_>> {
    let [version, channels, s0, s1, _, _, _, _, g0, g1, family, rest @ ..] = data.strip_prefix(b"OpusHead")? else {
        return None;
    };
    let (pre_skip, gain) = match version {
        0 => (u16::from_be_bytes([*s0, *s1]), i16::from_be_bytes([*g0, *g1])),
        1..16 => (u16::from_le_bytes([*s0, *s1]), i16::from_le_bytes([*g0, *g1])),
        _ => return None,
    };
    let (channels, family) = (*channels, *family);
    let (streams, coupled, mapping) = match (family, rest) {
        (0, _) => (1, channels.checked_sub(1)?, &[0, 1][..usize::from(channels.min(2))]),
        (_, [streams, coupled, mapping @ ..]) => (*streams, *coupled, mapping.get(..usize::from(channels))?),
        _ => return None,
    };
    Some(Head { channels, pre_skip, gain, family, streams, coupled, mapping })
}

/// The frames of run-up that the header notes.
pub(super) fn pre_skip(data: &[u8]) -> Option<u64> {
    head(data).map(|head| head.pre_skip.into())
}

/// The channel mapping family, where the header is one of Opus at all.
pub(super) fn mapping_family(data: &[u8]) -> Option<u8> {
    data.strip_prefix(b"OpusHead")?.get(10).copied()
}

/// Where the channels of a header stand, in its order: families 0 and 1 have the order of Vorbis.
fn positions(channels: u8) -> Option<&'static [Position]> {
    use Position as P;
    Some(match channels {
        1 => &[P::FRONT_LEFT],
        2 => &[P::FRONT_LEFT, P::FRONT_RIGHT],
        3 => &[P::FRONT_LEFT, P::FRONT_CENTER, P::FRONT_RIGHT],
        4 => &[P::FRONT_LEFT, P::FRONT_RIGHT, P::REAR_LEFT, P::REAR_RIGHT],
        5 => &[P::FRONT_LEFT, P::FRONT_CENTER, P::FRONT_RIGHT, P::REAR_LEFT, P::REAR_RIGHT],
        6 => &[P::FRONT_LEFT, P::FRONT_CENTER, P::FRONT_RIGHT, P::REAR_LEFT, P::REAR_RIGHT, P::LFE1],
        7 => &[P::FRONT_LEFT, P::FRONT_CENTER, P::FRONT_RIGHT, P::SIDE_LEFT, P::SIDE_RIGHT, P::REAR_CENTER, P::LFE1],
        8 => &[P::FRONT_LEFT, P::FRONT_CENTER, P::FRONT_RIGHT, P::SIDE_LEFT, P::SIDE_RIGHT, P::REAR_LEFT, P::REAR_RIGHT, P::LFE1],
        _ => return None,
    })
}

/// A decoder of one Opus track.
pub(super) struct OpusDecoder {
    params: AudioCodecParameters,
    gapless: bool,
    decoder: OpusMSDecoder,
    /// For each channel of the header, its plane in symphonia's order.
    planes: Vec<usize>,
    gain: f32,
    pcm: Vec<i16>,
    buffer: AudioBuffer<f32>,
}

impl OpusDecoder {
    fn decode_inner(&mut self, data: &[u8]) -> Result<usize> {
        let len = match i32::try_from(data.len()) {
            // Nothing at all would be taken for a lost packet, and be made up.
            Ok(0) | Err(_) => return decode_error("opus: a packet without content"),
            Ok(len) => len,
        };
        let frames = match self.decoder.decode(Some(data), len, &mut self.pcm, MAX_FRAMES as i32, false) {
            Ok(frames) => usize::try_from(frames).unwrap_or(0).min(MAX_FRAMES),
            Err(_) => return decode_error("opus: an invalid packet"),
        };
        self.buffer.render_uninit(Some(frames));
        for (channel, &plane) in self.planes.iter().enumerate() {
            let samples = self.pcm[channel..].iter().step_by(self.planes.len());
            let Some(plane) = self.buffer.plane_mut(plane) else { return decode_error("opus: a channel too many") };
            plane.iter_mut().zip(samples).for_each(|(out, &s)| *out = f32::from(s) / 32_768.0 * self.gain);
        }
        Ok(frames)
    }
}

impl AudioDecoder for OpusDecoder {
    fn reset(&mut self) {
        self.decoder.reset();
    }

    fn codec_info(&self) -> &CodecInfo {
        &SUPPORTED[0].info
    }

    fn codec_params(&self) -> &AudioCodecParameters {
        &self.params
    }

    fn decode_ref(&mut self, packet: &PacketRef<'_>) -> Result<GenericAudioBufferRef<'_>> {
        self.buffer.clear();
        let frames = self.decode_inner(packet.data).inspect_err(|_| self.buffer.clear())?;
        if self.gapless {
            let trim = |duration: u64| usize::try_from(duration).unwrap_or(usize::MAX).min(frames);
            let start = trim(packet.trim_start.get());
            self.buffer.trim(start, trim(packet.trim_end.get()).min(frames - start));
        }
        Ok(self.buffer.as_generic_audio_buffer_ref())
    }

    fn finalize(&mut self) -> FinalizeResult {
        FinalizeResult::default()
    }

    fn last_decoded(&self) -> GenericAudioBufferRef<'_> {
        self.buffer.as_generic_audio_buffer_ref()
    }
}

impl RegisterableAudioDecoder for OpusDecoder {
    fn try_registry_new(params: &AudioCodecParameters, options: &AudioDecoderOptions) -> Result<Box<dyn AudioDecoder>> {
        let Some(head) = params.extra_data.as_deref().and_then(head) else {
            return decode_error("opus: the header is missing or damaged");
        };
        let positions = match (head.family, positions(head.channels)) {
            (0, Some(positions @ [_] | positions @ [_, _])) | (1, Some(positions)) => positions,
            (0 | 1, _) => return decode_error("opus: a number of channels that its mapping does not have"),
            _ => return unsupported_error("opus: a channel mapping without positions"),
        };
        // A stream is a decoder of 100 KB; none is needed that is not heard.
        if head.streams > head.channels {
            return decode_error("opus: more streams than channels");
        }
        let (channels, streams, coupled) = (head.channels.into(), head.streams.into(), head.coupled.into());
        let Ok(decoder) = OpusMSDecoder::new(RATE as i32, channels, streams, coupled, head.mapping) else {
            return decode_error("opus: a channel mapping that contradicts itself");
        };
        let layout = Channels::Positioned(positions.iter().copied().collect());
        let planes = positions.iter().filter_map(|&p| layout.get_canonical_index_for_positioned_channel(p)).collect();
        let mut params = params.clone();
        params.with_sample_rate(RATE).with_channels(layout.clone());
        Ok(Box::new(Self {
            params,
            gapless: options.gapless,
            decoder,
            planes,
            gain: 10_f32.powf(f32::from(head.gain) / (20.0 * 256.0)),
            pcm: vec![0; MAX_FRAMES * positions.len()],
            buffer: AudioBuffer::new(AudioSpec::new(RATE, layout), MAX_FRAMES),
        }))
    }

    fn supported_codecs() -> &'static [SupportedAudioCodec] {
        &SUPPORTED
    }
}

#[cfg(test)]
mod tests {
    use symphonia::core::errors::Error;

    use super::*;

    fn new(extra: &[u8]) -> std::result::Result<(), Error> {
        let mut params = AudioCodecParameters::new();
        params.for_codec(CODEC_ID_OPUS).with_extra_data(extra.into());
        OpusDecoder::try_registry_new(&params, &AudioDecoderOptions::default()).map(drop)
    }

    fn header(version: u8, channels: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let numbers: &[u8] = if version == 0 { &[1, 56, 0, 0, 0xbb, 0x80, 0xff, 0] } else { &[56, 1, 0x80, 0xbb, 0, 0, 0, 0xff] };
        [b"OpusHead", &[version, channels][..], numbers, &[family], rest].concat()
    }

    #[test]
    fn both_byte_orders_are_read() {
        for version in [0, 1] {
            let data = header(version, 2, 0, &[]);
            let head = head(&data).unwrap();
            assert_eq!((head.pre_skip, head.gain, head.streams, head.coupled), (312, -256, 1, 1));
            assert_eq!(pre_skip(&data), Some(312));
            new(&data).unwrap();
        }
    }

    #[test]
    fn surround_is_taken_and_absurd_mappings_are_not() {
        new(&header(1, 6, 1, &[4, 2, 0, 4, 1, 2, 3, 5])).unwrap();
        // A silent channel.
        new(&header(1, 3, 1, &[2, 1, 0, 255, 1])).unwrap();
        let damaged = [
            header(1, 0, 0, &[]),
            header(1, 3, 0, &[]),
            header(1, 9, 1, &[9, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]),
            header(1, 2, 1, &[0, 0, 0, 1]),
            header(1, 2, 1, &[255, 255, 0, 1]),
            header(1, 2, 1, &[2, 0, 0, 9]),
            header(1, 2, 1, &[1, 2, 0, 1]),
            header(1, 6, 1, &[4, 2, 0]),
            header(16, 1, 0, &[]),
            b"OpusHead".to_vec(),
            b"OpusTags\x01\x01\0\0\0\0\0\0\0\0\0".to_vec(),
            Vec::new(),
        ];
        for bad in damaged {
            assert!(matches!(new(&bad), Err(Error::DecodeError(_))), "{bad:?}");
        }
        for family in [2, 3, 255] {
            assert!(matches!(new(&header(1, 2, family, &[2, 0, 0, 1])), Err(Error::Unsupported(_))), "{family}");
        }
    }

    #[test]
    fn cut_and_flipped_packets_are_errors_or_sound() {
        let mut params = AudioCodecParameters::new();
        params.for_codec(CODEC_ID_OPUS).with_extra_data(header(1, 2, 0, &[]).into());
        let new = || OpusDecoder::try_registry_new(&params, &AudioDecoderOptions::default()).unwrap();
        for application in [ropus::Application::Voip, ropus::Application::Audio] {
            let mut encoder = ropus::Encoder::builder(RATE, ropus::Channels::Stereo, application).build().unwrap();
            let (mut whole, mut decoder) = (new(), new());
            for n in 0..10 {
                let pcm: Vec<i16> = (0..1920).map(|i| ((i * (n + 3) * 37) % 9000) as i16 - 4500).collect();
                let mut data = vec![0; 4000];
                let len = encoder.encode(&pcm, &mut data).unwrap();
                data.truncate(len);
                let decode = |decoder: &mut Box<dyn AudioDecoder>, data: &[u8]| {
                    let packet = PacketRef::new(0, Default::default(), Default::default(), data);
                    decoder.decode_ref(&packet).map(|buffer| buffer.frames())
                };
                assert_eq!(decode(&mut whole, &data).unwrap(), 960);
                assert!(decode(&mut decoder, &[]).is_err());
                for at in 0..len {
                    let frames = decode(&mut decoder, &data[..at]).unwrap_or(0);
                    let mut flipped = data.clone();
                    flipped[at] ^= 0x55;
                    assert!(frames.max(decode(&mut decoder, &flipped).unwrap_or(0)) <= MAX_FRAMES);
                }
            }
        }
    }
}
