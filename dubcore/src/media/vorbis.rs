//! How large the tables of a Vorbis stream would be. Thirty bytes can describe a codebook of sixteen megabytes, and a stream
//! may have 256 of them: that is known before the decoder makes them.

/// Values in all codebooks of a stream that are accepted, 16 MB of them. Encoders use a hundredth.
const MOST_VALUES: u64 = 4 << 20;

/// Whether the setup header behind the identification header asks for more than any encoder does. A header that cannot be
/// followed is for the decoder to refuse.
pub(super) fn is_bomb(extra_data: &[u8]) -> bool {
    const IDENTIFICATION: usize = 30;
    let setup = extra_data.get(IDENTIFICATION..).and_then(|s| s.strip_prefix(b"\x05vorbis"));
    setup.and_then(values).is_some_and(|values| values > MOST_VALUES)
}

/// The number of values in all codebooks, or more than [`MOST_VALUES`] as soon as there are.
fn values(setup: &[u8]) -> Option<u64> {
    let mut bits = Bits { bytes: setup, at: 0 };
    let mut all = 0;
    for _ in 0..bits.take(8)? + 1 {
        all += codebook(&mut bits)?;
        if all > MOST_VALUES {
            break;
        }
    }
    Some(all)
}

/// Section 3.2.1 of the Vorbis I specification, read only for its sizes.
fn codebook(bits: &mut Bits<'_>) -> Option<u64> {
    let (sync, dimensions, entries) = (bits.take(24)?, bits.take(16)?, bits.take(24)?);
    if sync != 0x56_4342 || dimensions == 0 {
        return None;
    }
    let values = u64::from(entries) * u64::from(dimensions);
    if values > MOST_VALUES {
        return Some(values);
    }
    if bits.take(1)? == 1 {
        // Ordered: how many entries there are of each length.
        bits.take(5)?;
        let mut left = entries;
        while left > 0 {
            left = left.checked_sub(bits.take(32 - left.leading_zeros())?)?;
        }
    } else if bits.take(1)? == 1 {
        for _ in 0..entries {
            if bits.take(1)? == 1 {
                bits.take(5)?;
            }
        }
    } else {
        bits.skip(u64::from(entries) * 5)?;
    }
    let listed = match bits.take(4)? {
        0 => return Some(values),
        1 => u64::from(root(entries, dimensions)),
        2 => values,
        _ => return None,
    };
    bits.skip(64)?;
    let width = bits.take(4)? + 1;
    bits.take(1)?;
    bits.skip(listed * u64::from(width))?;
    Some(values)
}

/// The largest number whose `dimensions`th power is not above `entries`.
fn root(entries: u32, dimensions: u32) -> u32 {
    let fits = |n: u32| n.checked_pow(dimensions).is_some_and(|power| power <= entries);
    // Few lengths are long, and those are soon counted through: of one dimension it is the number itself.
    if dimensions == 1 { entries } else { (1..).take_while(|n| fits(*n)).last().unwrap_or(0) }
}

/// Bits, the lowest of each byte first.
struct Bits<'a> {
    bytes: &'a [u8],
    at: u64,
}

impl Bits<'_> {
    fn skip(&mut self, count: u64) -> Option<()> {
        self.at = self.at.checked_add(count).filter(|at| *at <= 8 * self.bytes.len() as u64)?;
        Some(())
    }

    /// Up to 32 of them.
    fn take(&mut self, count: u32) -> Option<u32> {
        let from = self.at;
        self.skip(u64::from(count))?;
        let bit = |i: u64| u32::from(self.bytes[(i / 8) as usize] >> (i % 8) & 1) << (i - from);
        Some((from..self.at).map(bit).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream's headers with `books` codebooks of `entries` entries, all equally long, of `dimensions` values each.
    fn headers(books: u32, entries: u32, dimensions: u32) -> Vec<u8> {
        let mut bits: Vec<bool> = Vec::new();
        let mut put = |value: u32, count: u32| bits.extend((0..count).map(|i| value >> i & 1 == 1));
        put(books - 1, 8);
        for _ in 0..books {
            put(0x56_4342, 24);
            put(dimensions, 16);
            put(entries, 24);
            put(1, 1);
            put(entries.ilog2() - 1, 5);
            put(entries, 32 - entries.leading_zeros());
            put(1, 4);
            put(0, 32);
            put(0, 32);
            put(0, 4);
            put(0, 1);
            put(0, root(entries, dimensions));
        }
        let packed = bits.chunks(8).map(|byte| byte.iter().rev().fold(0, |sum, bit| sum << 1 | u8::from(*bit)));
        [vec![0; 30], b"\x05vorbis".to_vec(), packed.collect()].concat()
    }

    #[test]
    fn bombs_are_told_from_music() {
        assert!(!is_bomb(&headers(40, 1 << 12, 8)), "a rich encoder's");
        assert!(!is_bomb(&headers(1, 1 << 17, 32)), "the most that the decoder takes in one");
        let bomb = headers(256, 1 << 17, 32);
        assert!(is_bomb(&bomb) && bomb.len() < 10_000, "{} bytes", bomb.len());
        for cut in 0..bomb.len().min(200) {
            is_bomb(&bomb[..cut]);
        }
        assert!(!is_bomb(&[]) && !is_bomb(&[0xff; 100]));
    }

    #[test]
    fn roots_are_the_largest() {
        for (entries, dimensions, want) in
            [(81, 4, 3), (80, 4, 2), (1, 9, 1), (0, 2, 0), (1 << 17, 32, 1), (625, 2, 25), (7, 1, 7)]
        {
            assert_eq!(root(entries, dimensions), want, "{entries} {dimensions}");
        }
    }
}
