//! The text tokens of a vocabulary as a trie over bytes.
#![forbid(unsafe_code)]

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;

use crate::sort::sorted_by;
use crate::text::vocabulary::{TokenKind, Vocabulary};

/// Cost of what cannot be spelled.
pub(super) const NEVER: u32 = u32::MAX / 16;

#[derive(Clone, Copy, Default)]
struct Node {
    byte: u8,
    children: (u32, u32),
    tokens: (u32, u32),
}

/// Nodes in breadth-first order, so that the children of a node lie side by side, sorted by byte.
pub(super) struct Trie {
    nodes: Vec<Node>,
    /// Text tokens sorted by bytes: the tokens that end at a node lie side by side.
    ids: Vec<u32>,
}

impl Trie {
    pub const ROOT: u32 = 0;

    pub fn new(vocabulary: &Vocabulary) -> Trie {
        // The first bytes of a token beside its id: most are told apart by them, without a look at the token.
        let first_bytes = |id| {
            let mut first = [0; size_of::<u64>()];
            first.iter_mut().zip(vocabulary.bytes(id)).for_each(|(first, byte)| *first = *byte);
            u64::from_be_bytes(first)
        };
        let text = (0..vocabulary.len() as u32).filter(|&id| vocabulary.kind(id) == TokenKind::Text);
        let keys = text.map(|id| (first_bytes(id), id)).collect();
        let keys = sorted_by(keys, |a: &(u64, u32), b| {
            a.0.cmp(&b.0).then_with(|| vocabulary.bytes(a.1).cmp(vocabulary.bytes(b.1)))
        });
        let ids: Vec<u32> = keys.into_iter().map(|(_, id)| id).collect();
        let mut nodes = vec![Node::default()];
        let mut queue = VecDeque::from([(0usize, 0usize, ids.len(), 0usize)]);
        while let Some((node, from, to, depth)) = queue.pop_front() {
            let mut at = from;
            while at < to && vocabulary.bytes(ids[at]).len() == depth {
                at += 1;
            }
            nodes[node].tokens = (from as u32, at as u32);
            let first = nodes.len();
            while at < to {
                let byte = vocabulary.bytes(ids[at])[depth];
                let start = at;
                while at < to && vocabulary.bytes(ids[at])[depth] == byte {
                    at += 1;
                }
                queue.push_back((nodes.len(), start, at, depth + 1));
                nodes.push(Node { byte, ..Node::default() });
            }
            nodes[node].children = (first as u32, nodes.len() as u32);
        }
        Trie { nodes, ids }
    }

    /// Children as (byte, node).
    pub fn children(&self, node: u32) -> impl Iterator<Item = (u8, u32)> + '_ {
        let (from, to) = self.nodes[node as usize].children;
        (from..to).map(|child| (self.nodes[child as usize].byte, child))
    }

    pub fn child(&self, node: u32, byte: u8) -> Option<u32> {
        let (from, to) = self.nodes[node as usize].children;
        let children = &self.nodes[from as usize..to as usize];
        children.binary_search_by_key(&byte, |child| child.byte).ok().map(|place| from + place as u32)
    }

    /// Tokens whose bytes end at this node.
    pub fn tokens(&self, node: u32) -> &[u32] {
        let (from, to) = self.nodes[node as usize].tokens;
        &self.ids[from as usize..to as usize]
    }
}

/// Bytes that have to be written, and the least number of tokens that spells them from each place on.
#[derive(Clone, Default)]
pub(super) struct Literal {
    pub bytes: Vec<u8>,
    /// `cost[i]`: tokens for `bytes[i..]`, [`NEVER`] where it cannot be spelled.
    pub cost: Vec<u32>,
    /// Tokens for the whole after a special token, where one space more may stand first.
    pub lead: u32,
}

impl Literal {
    pub fn new(trie: &Trie, bytes: &[u8], space_after_special: bool) -> Literal {
        let mut literal = Literal::default();
        literal.spell(trie, bytes, space_after_special);
        literal
    }

    /// Makes it `bytes`, in the memory that it has.
    pub fn spell(&mut self, trie: &Trie, bytes: &[u8], space_after_special: bool) {
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
        let cost = &mut self.cost;
        cost.clear();
        cost.resize(bytes.len() + 1, NEVER);
        cost[bytes.len()] = 0;
        for start in (0..bytes.len()).rev() {
            cost[start] = cheapest(trie, Trie::ROOT, bytes, start, cost);
        }
        let mut lead = cost[0];
        if space_after_special && let Some(space) = trie.child(Trie::ROOT, b' ') {
            lead = lead.min(cheapest(trie, space, bytes, 0, cost));
            if !trie.tokens(space).is_empty() {
                lead = lead.min(cost[0] + 1);
            }
        }
        self.lead = lead.min(NEVER);
    }

    /// Cost from place `at`; `lead` where one space may still come.
    pub fn from(&self, at: usize, lead: bool) -> u32 {
        if lead && at == 0 { self.lead } else { self.cost.get(at).copied().unwrap_or(NEVER) }
    }
}

fn cheapest(trie: &Trie, from: u32, bytes: &[u8], start: usize, cost: &[u32]) -> u32 {
    let mut best = NEVER;
    let mut node = from;
    for end in start..bytes.len() {
        let Some(child) = trie.child(node, bytes[end]) else { break };
        node = child;
        if !trie.tokens(node).is_empty() {
            best = best.min(1 + cost[end + 1]);
        }
    }
    best
}
