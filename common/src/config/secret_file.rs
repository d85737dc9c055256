//! A secret in a file of its own, as `*_file` names it: read each time it is used, so that a new one takes effect
//! without a restart.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Largest file of a secret, in bytes.
const MAX_BYTES: usize = 64 * 1024;
/// What a link may never lead to, whatever folders are allowed: what a process knows of itself is no secret in a file.
const NEVER: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Where a secret is, and where it may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SecretFile {
    /// The path as it is written. Hosts may keep their configuration in different places: only this is the same on all.
    pub(super) written: String,
    /// The path, absolute.
    pub(super) path: PathBuf,
    /// The folders that it may be read from, absolute.
    pub(super) folders: Arc<[PathBuf]>,
}

/// Why a file gives no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretFileError {
    /// The system says no.
    #[error("cannot be read: {0}")]
    Unreadable(io::ErrorKind),
    /// Links lead out of the folders that may be read.
    #[error("is not in a folder that alerts may read")]
    Outside,
    /// A folder, a pipe, a device.
    #[error("is not a file")]
    NotAFile,
    /// Nothing but perhaps a line end.
    #[error("is empty")]
    Empty,
    /// More than a secret has.
    #[error("is larger than 64 KiB")]
    TooLarge,
    /// Bytes that are no text.
    #[error("is not UTF-8")]
    NotText,
}

impl SecretFile {
    /// What the file holds now, without the line end at its end.
    pub(super) fn read(&self) -> Result<String, SecretFileError> {
        read(&self.path, &self.folders)
    }
}

fn read(path: &Path, folders: &[PathBuf]) -> Result<String, SecretFileError> {
    let unreadable = |error: io::Error| SecretFileError::Unreadable(error.kind());
    let path = path.canonicalize().map_err(unreadable)?;
    let allowed = |folder: &PathBuf| folder.canonicalize().is_ok_and(|folder| path.starts_with(folder));
    if !folders.iter().any(allowed) || NEVER.iter().any(|folder| path.starts_with(folder)) {
        return Err(SecretFileError::Outside);
    }
    // Opening a pipe would wait for somebody to write.
    if !path.metadata().map_err(unreadable)?.is_file() {
        return Err(SecretFileError::NotAFile);
    }
    let mut bytes = Vec::new();
    File::open(&path).and_then(|file| file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.len() > MAX_BYTES {
        return Err(SecretFileError::TooLarge);
    }
    let text = String::from_utf8(bytes).map_err(|_| SecretFileError::NotText)?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() { Err(SecretFileError::Empty) } else { Ok(text.to_owned()) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::super::Setting;
    use super::*;

    #[test]
    fn a_secret_is_read_anew_each_time_it_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let file = SecretFile { written: "key".into(), path: path.clone(), folders: [folder.path().into()].into() };
        let setting = Setting::file(file);
        fs::write(&path, " first \r\n").unwrap();
        assert_eq!(setting.resolve().unwrap().expose(), " first ");
        fs::write(&path, "second").unwrap();
        assert_eq!(setting.resolve().unwrap().expose(), "second");
        assert!(!format!("{setting:?}").contains("second"), "{setting:?}");
        assert!(format!("{setting:?}").contains("key"), "{setting:?}");
    }

    /// As a mounted secret of Kubernetes looks: the file is a link into a hidden folder beside it.
    #[test]
    fn links_are_followed_as_long_as_they_stay_inside() {
        let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(inside.path().join("..2026")).unwrap();
        fs::write(inside.path().join("..2026/key"), "secret").unwrap();
        symlink("..2026", inside.path().join("..data")).unwrap();
        symlink("..data/key", inside.path().join("key")).unwrap();
        fs::write(outside.path().join("key"), "canary").unwrap();
        symlink(outside.path().join("key"), inside.path().join("stolen")).unwrap();
        symlink("/proc/self/environ", inside.path().join("environ")).unwrap();
        let folders = [inside.path().to_owned()];
        assert_eq!(read(&inside.path().join("key"), &folders).as_deref(), Ok("secret"));
        for name in ["stolen", "environ"] {
            assert_eq!(read(&inside.path().join(name), &folders), Err(SecretFileError::Outside), "{name}");
        }
        // Nor is there a way when everything is allowed.
        assert_eq!(read(Path::new("/proc/self/environ"), &["/".into()]), Err(SecretFileError::Outside));
    }

    #[test]
    fn what_is_no_secret_is_told_with_its_path_alone() {
        let folder = tempfile::tempdir().unwrap();
        let folders: Arc<[PathBuf]> = [folder.path().to_owned()].into();
        for (name, bytes, said) in [
            ("empty", &b"\n"[..], "is empty"),
            ("binary", b"canary\xff", "is not UTF-8"),
            ("large", &[b'c'; MAX_BYTES + 1], "is larger than 64 KiB"),
        ] {
            let path = folder.path().join(name);
            fs::write(&path, bytes).unwrap();
            let file = SecretFile { written: name.to_owned(), path: path.clone(), folders: folders.clone() };
            let error = Setting::file(file).resolve().unwrap_err();
            assert_eq!(error.to_string(), format!("the file {} {said}", path.display()));
        }
        assert_eq!(read(folder.path(), &folders), Err(SecretFileError::NotAFile));
        let missing = read(&folder.path().join("missing"), &folders);
        assert_eq!(missing, Err(SecretFileError::Unreadable(io::ErrorKind::NotFound)));
    }
}
