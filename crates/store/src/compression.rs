//! Compression of layers, known by its first bytes; decompression bounded in memory and in ratio.

use std::io::{self, BufReader, Cursor, Read};
use std::sync::atomic::{AtomicU64, Ordering};

use coracle_spec::image::media_type;

use crate::limits;

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, several members allowed.
    Gzip,
    /// Zstandard, several and skippable frames allowed.
    Zstd,
    /// xz, several streams allowed.
    Xz,
    /// bzip2, several streams allowed.
    Bzip2,
}

/// First bytes of each format.
const MAGIC: [(&[u8], Compression); 4] = [
    (&[0x1f, 0x8b], Compression::Gzip),
    (&[0x28, 0xb5, 0x2f, 0xfd], Compression::Zstd),
    (&[0xfd, b'7', b'z', b'X', b'Z', 0], Compression::Xz),
    (b"BZh", Compression::Bzip2),
];

/// First bytes of a skippable Zstandard frame, whose lowest half byte is free (RFC 8878, 3.1.2).
const ZSTD_SKIPPABLE: [u8; 3] = [0x2a, 0x4d, 0x18];

impl Compression {
    /// What `start` is the beginning of.
    pub fn detect(start: &[u8]) -> Self {
        if start.len() >= 4 && start[0] & 0xf0 == 0x50 && start[1..4] == ZSTD_SKIPPABLE {
            return Self::Zstd;
        }
        let known = MAGIC.iter().find(|(magic, _)| start.starts_with(magic));
        known.map_or(Self::None, |(_, compression)| *compression)
    }

    /// The media type of a layer that is compressed so. The last two have none of their own that others know.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::None => media_type::LAYER,
            Self::Gzip => media_type::LAYER_GZIP,
            Self::Zstd => media_type::LAYER_ZSTD,
            Self::Xz => "application/vnd.oci.image.layer.v1.tar+xz",
            Self::Bzip2 => "application/vnd.oci.image.layer.v1.tar+bzip2",
        }
    }
}

/// Reads decompressed bytes of `input`, detecting the format.
pub(crate) fn decoder<'a>(
    mut input: impl Read + Send + 'a,
) -> io::Result<(Compression, Box<dyn Read + Send + 'a>)> {
    let mut start = Vec::new();
    input.by_ref().take(6).read_to_end(&mut start)?;
    let compression = Compression::detect(&start);
    let input = Cursor::new(start).chain(input);
    let input = BufReader::with_capacity(limits::CHUNK, input);
    let decoder: Box<dyn Read + Send + 'a> = match compression {
        Compression::None => Box::new(input),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
            decoder.window_log_max(limits::ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
        Compression::Xz => {
            let stream = liblzma::stream::Stream::new_stream_decoder(
                limits::XZ_MEMORY,
                liblzma::stream::CONCATENATED,
            )?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(input, stream))
        }
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(input)),
    };
    Ok((compression, decoder))
}

/// A reader that fails once more came out than [`limits`] allow for what went in.
pub(crate) struct Bounded<'a, R> {
    output: R,
    read: u64,
    input: &'a AtomicU64,
}

impl<'a, R: Read> Bounded<'a, R> {
    /// `input` counts the compressed bytes.
    pub(crate) fn new(output: R, input: &'a AtomicU64) -> Self {
        Self { output, read: 0, input }
    }
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.output.read(buffer)?;
        self.read += count as u64;
        let allowed = self
            .input
            .load(Ordering::Relaxed)
            .saturating_mul(limits::RATIO)
            .saturating_add(limits::RATIO_FREE);
        if self.read > allowed.min(limits::LAYER) {
            return Err(io::Error::other("it unpacks to far more than a layer may"));
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn compress(compression: Compression, content: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match compression {
            Compression::None => out.extend_from_slice(content),
            Compression::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(&mut out, flate2::Compression::fast());
                encoder.write_all(content).unwrap();
                encoder.finish().unwrap();
            }
            Compression::Zstd => out = zstd::encode_all(content, 1).unwrap(),
            Compression::Xz => {
                liblzma::read::XzEncoder::new(content, 1).read_to_end(&mut out).unwrap();
            }
            Compression::Bzip2 => {
                bzip2::read::BzEncoder::new(content, bzip2::Compression::fast())
                    .read_to_end(&mut out)
                    .unwrap();
            }
        }
        out
    }

    fn decompress(content: &[u8]) -> io::Result<(Compression, Vec<u8>)> {
        let (compression, mut decoder) = decoder(content)?;
        let mut out = Vec::new();
        decoder.read_to_end(&mut out)?;
        Ok((compression, out))
    }

    const ALL: [Compression; 4] = [Compression::Gzip, Compression::Zstd, Compression::Xz, Compression::Bzip2];

    #[test]
    fn every_format_is_detected_and_several_parts_are_joined() {
        for compression in [ALL.as_slice(), &[Compression::None]].concat() {
            let twice = [compress(compression, b"hello "), compress(compression, b"world")].concat();
            assert_eq!(decompress(&twice).unwrap(), (compression, b"hello world".to_vec()));
        }
        let skippable =
            [&[0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..], &zstd::encode_all(&b"x"[..], 1).unwrap()];
        assert_eq!(decompress(&skippable.concat()).unwrap(), (Compression::Zstd, b"x".to_vec()));
        assert_eq!(decompress(b"").unwrap(), (Compression::None, Vec::new()));
    }

    #[test]
    fn every_truncation_and_trailing_garbage_is_an_error() {
        let content: Vec<u8> = (0..20_000_u32).flat_map(|n| (n * n).to_le_bytes()).collect();
        for compression in ALL {
            let whole = compress(compression, &content);
            for cut in (7..whole.len()).step_by(whole.len() / 64 + 1) {
                assert!(
                    decompress(&whole[..cut]).is_err(),
                    "{compression:?} cut at {cut} of {}",
                    whole.len()
                );
            }
            assert!(
                decompress(&[&whole[..], b"garbage that is no frame"].concat()).is_err(),
                "{compression:?}"
            );
        }
    }

    #[test]
    fn memory_and_ratio_are_bounded() {
        let mut wide = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        wide.window_log(limits::ZSTD_WINDOW_LOG + 1).unwrap();
        wide.write_all(&[0; 1000]).unwrap();
        assert!(decompress(&wide.finish().unwrap()).is_err(), "a window of 256 MiB");

        let mut options = liblzma::stream::LzmaOptions::new_preset(9).unwrap();
        options.dict_size(512 << 20);
        let mut filters = liblzma::stream::Filters::new();
        filters.lzma2(&options);
        let check = liblzma::stream::Check::Crc32;
        let stream = liblzma::stream::Stream::new_stream_encoder(&filters, check).unwrap();
        let mut large = Vec::new();
        liblzma::read::XzEncoder::new_stream(&b"x"[..], stream).read_to_end(&mut large).unwrap();
        assert!(decompress(&large).is_err(), "a dictionary of 512 MiB");

        let input = AtomicU64::new(10);
        let copied = io::copy(&mut Bounded::new(io::repeat(0), &input), &mut io::sink());
        assert!(copied.is_err(), "an endless output of ten bytes");
    }
}
