//! The first file system of a machine: a cpio archive in the kernel's "newc" format (`driver-api/early-userspace` of the
//! kernel's documentation). Few files, so it is put together in memory; the file system of this machine comes later.

use std::path::Path;

/// Kinds and permissions of `stat.h`.
const FILE: u32 = 0o100_755;
const FOLDER: u32 = 0o040_755;
const CHARACTERS: u32 = 0o020_600;

/// An archive to which files are added; the folders above a file first.
pub(super) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// An archive with a console: the kernel connects the first process to it, and nothing else is there yet.
    pub(super) fn new() -> Self {
        let mut archive = Self { bytes: Vec::new(), entries: 0 };
        archive.folder("dev");
        archive.entry("dev/console", CHARACTERS, (5, 1), &[]);
        archive
    }

    /// Adds a folder.
    pub(super) fn folder(&mut self, path: &str) {
        self.entry(path, FOLDER, (0, 0), &[]);
    }

    /// Adds a file that can be run.
    pub(super) fn file(&mut self, path: &str, contents: &[u8]) {
        self.entry(path, FILE, (0, 0), contents);
    }

    /// The whole archive.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), contents: &[u8]) {
        self.entries += 1;
        let (length, name) = (contents.len() as u32, path.len() as u32 + 1);
        // Inode, mode, user, group, links, time, length, device, device that it is, length of the name, checksum.
        let fields = [self.entries, mode, 0, 0, 1, 0, length, 0, 0, device.0, device.1, name, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(contents);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// `/a/b/c` as the archive names it, with the folders above: `a`, `a/b`.
pub(super) fn inside(path: &Path) -> (Vec<String>, String) {
    let name = |path: &Path| path.strip_prefix("/").unwrap_or(path).display().to_string();
    let mut above: Vec<_> = path.ancestors().skip(1).map(name).filter(|name| !name.is_empty()).collect();
    above.reverse();
    (above, name(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned_and_followed_by_the_trailer() {
        let mut archive = Archive::new();
        archive.file("init", b"hello");
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.starts_with("07070100000001000041ed"), "a folder: {text}");
        assert!(text.contains("0000000500000001") && text.contains("dev/console\0"), "character device 5:1: {text}");
        let file = text.find("init\0").unwrap();
        // 110 bytes of header and 5 of name: one to fill up.
        assert_eq!(&text[file + 5..file + 11], "\0hello");
        assert!(text.contains("TRAILER!!!"));
    }

    #[test]
    fn folders_come_from_the_outside_in() {
        let (above, path) = inside(Path::new("/lib64/x/ld.so"));
        assert_eq!((above, path.as_str()), (vec!["lib64".to_owned(), "lib64/x".to_owned()], "lib64/x/ld.so"));
    }
}
