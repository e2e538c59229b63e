//! SentencePiece's table of characters to be replaced, such as full-width letters by plain ones.
//!
//! The table is a trie as Darts (a double array) lays it out, and the replacements, each of which
//! ends in a NUL. It comes from a file, so no place in it is trusted to be inside of it.

use unicode_segmentation::UnicodeSegmentation;

/// The longest replacement of SentencePiece's own tables has 33 bytes.
const MAX_REPLACEMENT: usize = 255;

/// Clusters of so many bytes or more are replaced character by character in HuggingFace's library.
const CLUSTER_BYTES: usize = 6;

#[derive(Debug)]
pub(super) struct Charsmap {
    trie: Vec<u32>,
    replacements: String,
}

impl Charsmap {
    /// From `precompiled_charsmap`: the length of the trie in bytes, the trie, the replacements.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let cut = || format!("its {} bytes end within the trie", bytes.len());
        let (length, rest) = bytes.split_first_chunk().ok_or_else(cut)?;
        let length = u32::from_le_bytes(*length) as usize;
        let (trie, replacements) = rest.split_at_checked(length).ok_or_else(cut)?;
        if length == 0 || !length.is_multiple_of(4) {
            return Err(format!("has a trie of {length} bytes, expected a multiple of 4"));
        }
        let (units, _) = trie.as_chunks();
        let replacements = std::str::from_utf8(replacements)
            .map_err(|e| format!("has replacements that are not UTF-8 ({e})"))?;
        if let Some(long) = replacements.split('\0').find(|to| to.len() > MAX_REPLACEMENT) {
            return Err(format!(
                "has a replacement of {} bytes, expected at most {MAX_REPLACEMENT}",
                long.len()
            ));
        }
        Ok(Self {
            trie: units.iter().map(|&unit| u32::from_le_bytes(unit)).collect(),
            replacements: replacements.to_owned(),
        })
    }

    /// How many bytes may come in the place of one.
    pub(super) fn growth(&self) -> usize {
        self.replacements.split('\0').map(str::len).max().unwrap_or_default()
    }

    /// What begins the text and is replaced: its length and what comes in its place, the shortest
    /// first.
    fn prefixes(&self, text: &str) -> impl Iterator<Item = (usize, &str)> {
        let offset = |unit: u32| (unit >> 10) << ((unit & (1 << 9)) >> 6);
        let unit = |at: u32| self.trie.get(at as usize).copied();
        let mut at = unit(0).map(offset);
        let path = text.bytes().zip(1..).map_while(move |(byte, length)| {
            let place = at? ^ u32::from(byte);
            let found = unit(place)?;
            // A unit that holds a number has the highest bit set, and so is no byte's.
            if found & (1 << 31 | 0xff) != u32::from(byte) {
                return None;
            }
            let next = place ^ offset(found);
            at = Some(next);
            let ends_here = found & (1 << 8) != 0;
            Some(ends_here.then(|| unit(next)).flatten().map(|value| (length, value)))
        });
        path.flatten().filter_map(|(length, value)| {
            let from = self.replacements.get((value & !(1 << 31)) as usize..)?;
            Some((length, from.split('\0').next().unwrap_or_default()))
        })
    }

    /// The longest beginning of the text that is replaced, as SentencePiece takes it.
    pub(super) fn longest(&self, text: &str) -> Option<(usize, &str)> {
        self.prefixes(text).last()
    }

    /// The text with what is replaced, as HuggingFace's library takes it: whole clusters if they
    /// are short, else their characters, and of each the shortest beginning.
    pub(super) fn replace(&self, text: &str) -> String {
        let shortest = |part: &str| self.prefixes(part).next().map(|(_, replacement)| replacement);
        let mut out = String::with_capacity(text.len());
        for cluster in text.graphemes(true) {
            let whole = (cluster.len() < CLUSTER_BYTES).then(|| shortest(cluster)).flatten();
            if let Some(replacement) = whole {
                out.push_str(replacement);
                continue;
            }
            for c in cluster.chars() {
                let mut buffer = [0; 4];
                let c: &str = c.encode_utf8(&mut buffer);
                out.push_str(shortest(c).unwrap_or(c));
            }
        }
        out
    }
}
