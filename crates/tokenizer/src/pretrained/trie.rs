//! Which of many texts begin a text.

/// Texts with a number each. The children of a node lie next to each other, in the order of their
/// bytes: sixteen bytes a node, whatever the file holds.
#[derive(Debug)]
pub(super) struct Trie {
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    /// The first child's place, and how many there are.
    children: (u32, u16),
    byte: u8,
    value: Option<u32>,
}

impl Trie {
    /// Of equal texts the last one's number is kept; an empty text is never found.
    pub(super) fn new<'a>(texts: impl IntoIterator<Item = (&'a str, u32)>) -> Self {
        let mut texts: Vec<(&[u8], u32)> =
            texts.into_iter().map(|(text, value)| (text.as_bytes(), value)).collect();
        texts.sort_by_key(|&(text, _)| text);
        let node = |byte| Node { children: (0, 0), byte, value: None };
        let mut nodes = vec![node(0)];
        // Of each node the texts that go through it, and its depth.
        let mut through = vec![(0, texts.len(), 0)];
        let mut at = 0;
        while at < nodes.len() {
            let (mut begin, end, depth) = through[at];
            while begin < end && texts[begin].0.len() == depth {
                nodes[at].value = Some(texts[begin].1);
                begin += 1;
            }
            let first = nodes.len() as u32;
            while begin < end {
                let byte = texts[begin].0[depth];
                let same = texts[begin..end].partition_point(|(text, _)| text[depth] == byte);
                nodes.push(node(byte));
                through.push((begin, begin + same, depth + 1));
                begin += same;
            }
            nodes[at].children = (first, (nodes.len() as u32 - first) as u16);
            at += 1;
        }
        nodes[0].value = None;
        Self { nodes }
    }

    /// All that begin `text`, with their lengths in bytes, the shortest first.
    pub(super) fn prefixes(&self, text: &str) -> impl Iterator<Item = (usize, u32)> {
        let mut node = &self.nodes[0];
        let path = text.bytes().zip(1..).map_while(move |(byte, length)| {
            let (first, count) = node.children;
            let children = &self.nodes[first as usize..first as usize + usize::from(count)];
            node = &children[children.binary_search_by_key(&byte, |child| child.byte).ok()?];
            Some((length, node.value))
        });
        path.filter_map(|(length, value)| Some((length, value?)))
    }

    /// The number of the text itself.
    pub(super) fn get(&self, text: &str) -> Option<u32> {
        self.prefixes(text).find(|&(length, _)| length == text.len()).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn prefixes_are_those_that_begin_the_text(
            texts in prop::collection::vec("[ab€é]{0,4}", 0..20),
            text in "[ab€é]{0,6}",
        ) {
            let trie = Trie::new(texts.iter().map(String::as_str).zip(0..));
            let found: Vec<(usize, u32)> = trie.prefixes(&text).collect();
            let mut expected: Vec<(usize, u32)> = Vec::new();
            for (other, value) in texts.iter().zip(0..) {
                if !other.is_empty() && text.starts_with(other.as_str()) {
                    expected.retain(|&(length, _)| length != other.len());
                    expected.push((other.len(), value));
                }
            }
            expected.sort_unstable();
            prop_assert_eq!(found, expected);
            let last = texts.iter().rposition(|other| *other == text && !text.is_empty());
            prop_assert_eq!(trie.get(&text), last.map(|k| k as u32));
        }
    }
}
