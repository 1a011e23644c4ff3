//! The images: made of files of this machine, so that they compress as real ones do.

use coracle_tests::Engine;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// What an image consists of.
pub(crate) enum Content {
    /// Layers of so many bytes each.
    Layers { name: &'static str, title: &'static str, layers: usize, bytes: u64 },
    /// One layer of so many small files.
    SmallFiles { files: usize },
    /// Layers of so many bytes each that do not compress.
    Noise { layers: usize, bytes: u64 },
}

/// All images, in the order of the table.
pub(crate) fn all() -> [Content; 3] {
    [
        Content::Layers { name: "large", title: "one gzip layer of 256 MiB", layers: 1, bytes: 256 << 20 },
        Content::Layers { name: "eight", title: "eight gzip layers of 32 MiB", layers: 8, bytes: 32 << 20 },
        Content::SmallFiles { files: 30_000 },
    ]
}

impl Content {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Layers { name, .. } => name,
            Self::SmallFiles { .. } => "files",
            Self::Noise { .. } => "noise",
        }
    }

    pub(crate) fn title(&self) -> &str {
        match self {
            Self::Layers { title, .. } => title,
            Self::SmallFiles { .. } => "30,000 files of up to 4 KiB in one gzip layer",
            Self::Noise { .. } => "2 GiB in four layers",
        }
    }

    /// Makes the image and pushes it; nothing of it stays in the engine.
    pub(crate) fn push(&self, engine: &Engine, image: &str) {
        let directory = engine.directory().join("content");
        fs::create_dir_all(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        let mut sources = Sources::new();
        match self {
            Self::Layers { layers, bytes, .. } => {
                for number in 0..*layers {
                    let archive = directory.join(format!("{number}.tar"));
                    pack(&archive, &sources.take(*bytes), number);
                    add_layer(engine, image, &archive, number);
                }
            }
            Self::SmallFiles { files } => {
                let archive = directory.join("files.tar");
                pack_small(&archive, *files, &mut sources);
                add_layer(engine, image, &archive, 0);
            }
            Self::Noise { layers, bytes } => {
                for number in 0..*layers {
                    let archive = directory.join(format!("{number}.tar"));
                    pack_noise(&archive, *bytes, number);
                    add_layer(engine, image, &archive, number);
                }
            }
        }
        engine.docker(&["push", "-q", image]).ok();
        engine.docker(&["rmi", image]).ok();
        // The next image begins anew.
        fs::remove_dir_all(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    }
}

/// The first layer is imported, each further one is what a container unpacks.
fn add_layer(engine: &Engine, image: &str, archive: &Path, number: usize) {
    let path = archive.display().to_string();
    if number == 0 {
        engine.docker(&["import", &path, image]).ok();
        return;
    }
    let bind = format!("{path}:/in.tar:ro");
    let (container, volume) = (engine.name("layer"), "/bin/busybox:/busybox:ro");
    let arguments = [
        "run",
        "--name",
        &container,
        "--network",
        "none",
        "-v",
        &bind,
        "-v",
        volume,
        image,
        "/busybox",
        "tar",
        "xf",
        "/in.tar",
        "-C",
        "/",
    ];
    engine.docker(&arguments).ok();
    engine.docker(&["commit", &container, image]).ok();
    engine.docker(&["rm", &container]).ok();
}

fn pack(archive: &Path, files: &[PathBuf], number: usize) {
    let mut builder = tar::Builder::new(create(archive));
    for (position, path) in files.iter().enumerate() {
        let name = format!("layer{number}/{position}");
        builder
            .append_path_with_name(path, name)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    builder.finish().unwrap_or_else(|error| panic!("{}: {error}", archive.display()));
}

fn pack_small(archive: &Path, files: usize, sources: &mut Sources) {
    let mut builder = tar::Builder::new(create(archive));
    let (mut content, mut at) = (Vec::new(), 0);
    for number in 0..files {
        let size = 256 + number * 37 % 3840;
        while content.len() - at < size {
            let path = sources.take(1).remove(0);
            content.drain(..at);
            at = 0;
            File::open(&path).and_then(|mut file| file.read_to_end(&mut content)).unwrap_or_default();
        }
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(size as u64);
        let name = format!("d{}/e{}/{number}", number % 40, number % 900);
        builder
            .append_data(&mut header, name, &content[at..at + size])
            .unwrap_or_else(|error| panic!("{}: {error}", archive.display()));
        at += size;
    }
    builder.finish().unwrap_or_else(|error| panic!("{}: {error}", archive.display()));
}

fn pack_noise(archive: &Path, bytes: u64, number: usize) {
    let mut builder = tar::Builder::new(create(archive));
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(bytes);
    let mut state = number as u64 + 1;
    let noise = std::iter::repeat_with(|| {
        // Xorshift (Marsaglia, 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    let block: Vec<u8> = noise.take((4 << 20) / 8).flatten().collect();
    // Longer than any window of a compressor.
    let content = Cycle { block, at: 0 };
    builder
        .append_data(&mut header, format!("noise{number}"), content.take(bytes))
        .and_then(|()| builder.finish())
        .unwrap_or_else(|error| panic!("{}: {error}", archive.display()));
}

/// The same bytes again and again.
struct Cycle {
    block: Vec<u8>,
    at: usize,
}

impl Read for Cycle {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = (&self.block[self.at..]).read(buffer)?;
        self.at = (self.at + count) % self.block.len();
        Ok(count)
    }
}

fn create(path: &Path) -> File {
    File::create(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Regular files below `/usr`, each given once.
struct Sources {
    directories: Vec<PathBuf>,
    files: Vec<PathBuf>,
}

impl Sources {
    fn new() -> Self {
        Self { directories: vec!["/usr/share".into(), "/usr/lib".into()], files: Vec::new() }
    }

    /// Files of at least so many bytes together.
    fn take(&mut self, bytes: u64) -> Vec<PathBuf> {
        let (mut taken, mut size) = (Vec::new(), 0);
        while size < bytes {
            while self.files.is_empty() {
                self.read_directory();
            }
            let file = self.files.remove(0);
            let length = fs::metadata(&file).map_or(0, |metadata| metadata.len());
            if length > 0 && length < 64 << 20 {
                size += length;
                taken.push(file);
            }
        }
        taken
    }

    fn read_directory(&mut self) {
        let directory = self.directories.pop().expect("/usr has enough files");
        let mut entries: Vec<_> = fs::read_dir(&directory).into_iter().flatten().flatten().collect();
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => self.directories.push(entry.path()),
                Ok(kind) if kind.is_file() => self.files.push(entry.path()),
                _ => {}
            }
        }
    }
}
