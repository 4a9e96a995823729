//! Shapes of real layers, by name.

/// A linear layer: name, rows, inputs, outputs.
pub type Linear = (&'static str, usize, usize, usize);

/// Linear layers.
pub const LINEAR: [Linear; 11] = [
    ("vit_b16/qkv", 197, 768, 2304),
    ("vit_b16/proj", 197, 768, 768),
    ("vit_b16/fc1", 197, 768, 3072),
    ("vit_b16/fc2", 197, 3072, 768),
    ("vit_l14_336/qkv", 577, 1024, 3072),
    ("vit_l14_336/proj", 577, 1024, 1024),
    ("vit_l14_336/fc1", 577, 1024, 4096),
    ("vit_l14_336/fc2", 577, 4096, 1024),
    ("llama_1b/gate_prefill", 200, 2048, 8192),
    ("llama_1b/gate_decode", 1, 2048, 8192),
    ("tabletop/fc1", 400, 192, 768),
];

/// An attention layer: name, queries, keys, query heads, key-value heads, width of a head.
pub type Attention = (&'static str, usize, usize, usize, usize, usize);

/// Attention layers.
pub const ATTENTION: [Attention; 4] = [
    ("vit_b16", 197, 197, 12, 12, 64),
    ("vit_l14_336", 577, 577, 16, 16, 64),
    ("llama_1b/prefill", 200, 200, 32, 8, 64),
    ("llama_1b/decode", 1, 700, 32, 8, 64),
];
