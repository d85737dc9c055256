//! The files that are one configuration: a file or a folder, and what its files include.
//!
//! Input: a path. Output: a [`Reading`], the trees of all files in their order, with what could not be read; and
//! [`Watched`], by which one can ask later whether reading would find something else. A file comes before the files
//! that it includes, and those come in the order in which it names them; a file that is named twice is read once.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use glob::{MatchOptions, Pattern};
use sha2::{Digest, Sha256};

use super::access::Access;
use super::check;
use super::error::{ConfigErrors, ConfigProblem};
use super::interpolate::Environment;
use super::raw::{self, Node, Place, Value};
use super::section::{Item, Reader, SourceFile};
use super::{Config, QueryCheck};

/// Most files of one configuration.
pub(super) const MAX_FILES: usize = 1_000;
/// Largest configuration, in bytes, all files together.
const MAX_BYTES: usize = 64 << 20;
/// What files of a folder are part of the configuration.
const EXTENSIONS: [&str; 2] = ["yaml", "yml"];
/// `*` stays in its folder, and hidden files are not named by it: Kubernetes and editors put theirs there.
const GLOB: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// What was read of a configuration, whole or broken.
#[derive(Debug)]
pub struct Reading {
    files: Vec<SourceFile>,
    roots: Vec<Node>,
    problems: Vec<(Place, ConfigProblem)>,
    warnings: Vec<(Place, ConfigProblem)>,
    incomplete: bool,
    access: Access,
    folders: Arc<[PathBuf]>,
    watched: Watched,
}

/// What a reading depended on: the names in folders, and the contents of files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    listings: Vec<(Listing, Result<Vec<PathBuf>, ErrorKind>)>,
    files: Vec<(PathBuf, Mark)>,
}

/// A place whose files are all read.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Listing {
    Folder(PathBuf),
    Glob(String),
}

/// What is remembered of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Mark {
    Content([u8; 32]),
    Unreadable(ErrorKind),
    /// A pipe, which cannot be read again.
    Stream,
}

impl Watched {
    /// Whether reading now would find something else than it found then. It reads all files, and waits for the disk.
    pub fn has_changed(&self) -> bool {
        self.listings.iter().any(|(listing, then)| listing.files().map_err(|error| error.kind()) != *then)
            || self.files.iter().any(|(path, then)| *then != Mark::Stream && read_file(path).0 != *then)
    }

    /// The files and the folders that were looked at.
    pub fn paths(&self) -> Vec<PathBuf> {
        let folder = |listing: &Listing| match listing {
            Listing::Folder(folder) => folder.clone(),
            Listing::Glob(pattern) => {
                let literal = pattern.find(['*', '?', '[']).unwrap_or(pattern.len());
                Path::new(&pattern[..pattern[..literal].rfind('/').unwrap_or_default()]).to_owned()
            }
        };
        let folders = self.listings.iter().map(|(listing, _)| folder(listing));
        folders.chain(self.files.iter().map(|(path, _)| path.clone())).collect()
    }
}

impl Listing {
    /// Its files, sorted.
    fn files(&self) -> io::Result<Vec<PathBuf>> {
        match self {
            Self::Folder(folder) => {
                let entries: Vec<_> = fs::read_dir(folder)?.collect::<Result<_, _>>()?;
                let is_hidden = |path: &Path| path.file_name().is_none_or(|name| name.as_encoded_bytes()[0] == b'.');
                let extension =
                    |path: &Path| path.extension().and_then(|extension| extension.to_str().map(str::to_owned));
                let is_ours = |path: &Path| extension(path).is_some_and(|found| EXTENSIONS.contains(&found.as_str()));
                let mut files: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
                // A link that leads nowhere stays in, and is an error: its alerts must not vanish silently.
                files.retain(|path| !is_hidden(path) && is_ours(path) && !path.is_dir());
                files.sort();
                Ok(files)
            }
            Self::Glob(pattern) => {
                let paths =
                    glob::glob_with(pattern, GLOB).map_err(|error| io::Error::new(ErrorKind::InvalidInput, error))?;
                // More than that is too many anyhow.
                let paths = paths.take(MAX_FILES + 1).map(|path| path.map_err(io::Error::from));
                let mut paths: Vec<_> = paths.collect::<Result<_, _>>()?;
                paths.retain(|path| !path.is_dir());
                Ok(paths)
            }
        }
    }
}

/// The bytes of the file at `path`, one more than a file may have at most, and what to remember of them.
fn read_file(path: &Path) -> (Mark, io::Result<Vec<u8>>) {
    let read = || {
        let mut bytes = Vec::new();
        File::open(path)?.take(raw::MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() && !metadata.is_dir() => (Mark::Stream, read()),
        _ => match read() {
            Ok(bytes) => (Mark::Content(Sha256::digest(&bytes).into()), Ok(bytes)),
            Err(error) => (Mark::Unreadable(error.kind()), Err(error)),
        },
    }
}

impl Reading {
    /// What would make another reading find something else.
    pub fn watched(&self) -> &Watched {
        &self.watched
    }

    /// Validates what was read; each query must pass `query_check` too.
    pub fn check(self, environment: &Environment<'_>, query_check: &QueryCheck<'_>) -> Result<Config, ConfigErrors> {
        let mut reader = Reader::new(environment, &self.access, self.folders);
        reader.files = self.files;
        reader.problems = self.problems;
        reader.warnings = self.warnings;
        reader.incomplete = self.incomplete;
        check::check(reader, &self.roots, query_check)
    }
}

/// Reads what is at `path`.
pub(super) fn read(path: &Path, access: &Access, environment: &Environment<'_>) -> Reading {
    let is_folder = path.is_dir();
    let own = if is_folder { Some(path) } else { path.parent().filter(|_| path.is_file()) };
    let mut loader = Loader::new(access, environment, own);
    if is_folder {
        loader.reader.files.push(SourceFile { name: path.display().to_string(), folder: path.to_owned() });
        loader.whole_folder(path, Place::default(), "");
        loader.pending.reverse();
    } else {
        loader.pending.push(path.to_owned());
    }
    loader.read_pending();
    loader.done()
}

/// Reads `text`, which errors call `name`, and what it includes.
pub(super) fn read_text(text: &str, name: &str, access: &Access, environment: &Environment<'_>) -> Reading {
    let mut loader = Loader::new(access, environment, None);
    loader.reader.files.push(SourceFile { name: name.to_owned(), folder: PathBuf::new() });
    loader.text(text);
    loader.read_pending();
    loader.done()
}

struct Loader<'a> {
    reader: Reader<'a>,
    roots: Vec<Node>,
    watched: Watched,
    /// The files that are still to be read, the next one last.
    pending: Vec<PathBuf>,
    /// The files that were read, by where links lead.
    seen: HashSet<PathBuf>,
    bytes: usize,
    nodes: usize,
}

impl<'a> Loader<'a> {
    fn new(access: &'a Access, environment: &'a Environment<'a>, own: Option<&Path>) -> Self {
        let own = own.map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
        Self {
            reader: Reader::new(environment, access, access.folders(own)),
            roots: Vec::new(),
            watched: Watched::default(),
            pending: Vec::new(),
            seen: HashSet::new(),
            bytes: 0,
            nodes: 0,
        }
    }

    fn done(self) -> Reading {
        let Reader { files, access, folders, problems, warnings, incomplete, .. } = self.reader;
        let (roots, watched) = (self.roots, self.watched);
        Reading { files, roots, problems, warnings, incomplete, access: access.clone(), folders, watched }
    }

    fn read_pending(&mut self) {
        while let Some(path) = self.pending.pop() {
            // What cannot be resolved is read all the same, for the error.
            if !self.seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone())) {
                continue;
            }
            let folder = path.parent().map(Path::to_owned).unwrap_or_default();
            self.reader.files.push(SourceFile { name: path.display().to_string(), folder });
            if self.seen.len() > MAX_FILES {
                return self.give_up(format!("the configuration has more than {MAX_FILES} files"));
            }
            let (mark, read) = read_file(&path);
            self.watched.files.push((path, mark));
            match read.map_err(|error| format!("cannot be read: {error}")).and_then(into_text) {
                Ok(text) => self.text(&text),
                Err(message) => self.broken(self.file_place(), "", message, ""),
            }
        }
    }

    /// The file that is being read, as a whole.
    fn file_place(&self) -> Place {
        Place { file: self.reader.files.len().saturating_sub(1), ..Place::default() }
    }

    fn broken(&mut self, place: Place, path: &str, message: impl Into<String>, help: &str) {
        self.reader.incomplete = true;
        self.reader.problem(place, path, message, help);
    }

    fn give_up(&mut self, message: String) {
        self.broken(self.file_place(), "", message, "");
        self.pending.clear();
    }

    /// Reads the text of the last file, and notes what it includes.
    fn text(&mut self, text: &str) {
        self.bytes += text.len();
        if self.bytes > MAX_BYTES {
            return self.give_up(format!("the configuration is larger than {} MiB", MAX_BYTES >> 20));
        }
        let root = match raw::parse(text, self.file_place().file) {
            Ok((root, nodes)) => {
                self.nodes += nodes;
                root
            }
            Err(flaw) => return self.broken(flaw.place, &flaw.path, flaw.message, flaw.help),
        };
        if self.nodes > raw::MAX_NODES {
            return self.give_up("the configuration is too large, or repeats itself too often by aliases".to_owned());
        }
        let waiting = self.pending.len();
        let include = Item { node: &root, path: String::new() }.peek("include");
        if let Some(list) = include.filter(|item| !matches!(item.node.value, Value::Null)) {
            for item in self.reader.list(&list) {
                self.include(&item);
            }
        }
        // The first to be read is the last of the stack.
        self.pending[waiting..].reverse();
        self.roots.push(root);
    }

    /// Notes the files that `item` names.
    fn include(&mut self, item: &Item<'_>) {
        let place = item.node.place;
        let Some(text) = self.reader.text(item) else { return self.reader.incomplete = true };
        let text = text.trim();
        if text.is_empty() {
            return self.broken(place, &item.path, "is empty", "write a path, or a pattern such as `teams/*.yaml`");
        }
        let folder = self.reader.files.get(place.file).map(|file| file.folder.clone()).unwrap_or_default();
        let path = folder.join(text);
        if text.contains(['*', '?', '[']) {
            let pattern = match (Path::new(text).is_absolute(), folder.to_string_lossy()) {
                (true, _) => text.to_owned(),
                (false, folder) if folder.is_empty() => text.to_owned(),
                (false, folder) => format!("{}/{text}", Pattern::escape(&folder)),
            };
            if let Err(error) = Pattern::new(&pattern) {
                return self.broken(place, &item.path, format!("not a pattern of files: {}", error.msg), "");
            }
            let found = self.list(Listing::Glob(pattern), place, &item.path);
            if found == Some(0) {
                self.reader.warning(place, &item.path, "the pattern fits no file", "");
            }
        } else if path.is_dir() {
            self.whole_folder(&path, place, &item.path);
        } else if path.exists() {
            // Opening a pipe would wait for somebody to write.
            if path.is_file() {
                self.pending.push(path);
            } else {
                self.broken(place, &item.path, "is not a file", "");
            }
        } else {
            self.watched.files.push((path, Mark::Unreadable(ErrorKind::NotFound)));
            self.broken(place, &item.path, "there is no such file", "the path is relative to the file it stands in");
        }
    }

    /// Notes the files of a folder, which `place` names.
    fn whole_folder(&mut self, folder: &Path, place: Place, path: &str) {
        if self.list(Listing::Folder(folder.to_owned()), place, path) == Some(0) {
            let message = format!("there is no `.yaml` or `.yml` file in {}", folder.display());
            self.broken(place, path, message, "");
        }
    }

    /// Notes the files of `listing`, and says how many there are.
    fn list(&mut self, listing: Listing, place: Place, path: &str) -> Option<usize> {
        let files = listing.files();
        self.watched.listings.push((listing, files.as_ref().map(Vec::clone).map_err(io::Error::kind)));
        match files {
            Ok(files) => {
                let count = files.len();
                self.pending.extend(files);
                Some(count)
            }
            Err(error) => {
                self.broken(place, path, format!("cannot be listed: {error}"), "");
                None
            }
        }
    }
}

fn into_text(bytes: Vec<u8>) -> Result<String, String> {
    if bytes.len() > raw::MAX_FILE_BYTES {
        return Err(raw::too_large());
    }
    String::from_utf8(bytes).map_err(|error| {
        let line = 1 + error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|&&b| b == b'\n').count();
        format!("is not UTF-8 (line {line})")
    })
}

#[cfg(test)]
mod tests;
