//! The C ABI as its callers meet it: header, symbols, layout, programs in C, and calls of every export.

#[cfg(feature = "finetune")]
mod align;
mod calls;
mod device;
mod exports;
mod handles;
mod header;
mod layout;
mod options;
mod programs;
mod scenes;
mod sharing;
