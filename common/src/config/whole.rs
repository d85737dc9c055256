//! The tops of all files as one: what may be in several of them, and what in one only.

use super::raw::Place;
use super::section::{Item, Reader, Section};

/// The sections at the tops of the files, in the files' order.
pub(super) struct Whole<'n>(Vec<Section<'n>>);

impl<'n> Whole<'n> {
    /// Of these files, if there is one.
    pub(super) fn new(tops: Vec<Section<'n>>) -> Option<Self> {
        (!tops.is_empty()).then_some(Self(tops))
    }

    /// Where to point when `key` is in no file: at the key, if it is somewhere without a value, or else at the beginning.
    pub(super) fn place_of(&self, key: &str) -> Place {
        let places = self.0.iter().map(|top| (top.place_of(key), top.place));
        let at_key = places.clone().find(|(at, top)| at != top);
        at_key.or(self.0.first().map(|top| (top.place, top.place))).map_or_else(Place::default, |(place, _)| place)
    }

    /// The beginning of the first file.
    pub(super) fn place(&self) -> Place {
        self.0.first().map_or_else(Place::default, |top| top.place)
    }

    /// The values of `key`, which are joined over files.
    pub(super) fn all(&self, key: &str) -> Vec<Item<'n>> {
        self.0.iter().filter_map(|top| top.get(key)).collect()
    }

    /// The value of `key`, which holds for the whole configuration: it may be in one file only.
    pub(super) fn single(&self, reader: &mut Reader<'_>, key: &str) -> Option<Item<'n>> {
        let first = self.0.iter().find(|top| top.get(key).is_some())?;
        let at = first.place_of(key);
        for top in self.0.iter().filter(|top| top.get(key).is_some()).skip(1) {
            let place = top.place_of(key);
            let message = format!("`{key}` is already there in {}", reader.seen_from(place, at));
            reader.problem(place, key, message, "it holds for all files: remove one of them");
        }
        first.get(key)
    }
}
