//! From text to training examples.
//!
//! The stages are plain functions over files that `docs/FORMATS.md` describes, so each can be run,
//! cached and tested alone:
//!
//! | stage | what it decides |
//! |---|---|
//! | [`corpus::load`] | a corpus is *documents*, whatever file it is in, known by a hash of their content |
//! | [`split()`] | held out is by document, and the same for every seed: runs are compared on the same text |
//! | [`BpeTokenizer`] | byte-level BPE: no text is unknown, none is changed, and HuggingFace's library gives the same ids |
//! | [`PretrainedTokenizer`] | the tokenizers that pretrained models came with, for measuring those; [`Tokenizer`] is either kind |
//! | [`Shard`] | token ids in a file with a checksum |
//! | [`TrainingOrder`] | the `k`-th example is arithmetic on `(seed, k)`; there is no loader to checkpoint |
//! | [`shuffled`], [`FragmentOrder`] | the same text without order, or without repetition: negative controls |
//! | [`Synthetic`], [`SyntheticTask`] | examples without a corpus, and how well they can be predicted |
//! | [`prepare`] | all of it in one folder, made once, shared by runs |
//!
//! Every example is `<|bos|>` and `n_ctx` tokens. Inputs are all but the last, targets all but the
//! first, so the model predicts each token of the window once, and heads that have nothing to do can
//! always attend to the start token.
//!
//! What this crate does not do: normalise text (but where a pretrained model does), read corpora in
//! part, or trust a file. Every reader bounds what it allocates by what it reads, and refuses with
//! an [`Error`] that names the file and the field.
//!
//! ```
//! use induction_tokenizer::{TrainingOrder, example, prepare};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! let corpus = folder.path().join("fruit.txt");
//! std::fs::write(&corpus, "An apple a day.\n\nA pear a day.\n\nA plum, and a day without one.\n\n".repeat(20))?;
//!
//! let data = prepare(&corpus, 270, 0.1, folder.path().join("data"))?;
//! assert_eq!(data.tokenizer.decode(&data.tokenizer.encode("A kiwi ☺"))?, "A kiwi ☺");
//!
//! let n_ctx = 32;
//! let order = TrainingOrder::new(0, data.train.tokens.len(), n_ctx)?;
//! let first = example(&data.train.tokens, order.window_start(0), n_ctx, data.tokenizer.bos());
//! assert_eq!((first.len(), first[0]), (n_ctx + 1, 0));
//! # Ok(())
//! # }
//! ```
//!
//! Runnable: `cargo run -p induction-tokenizer --example bpe`.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod corpus;
pub mod synthetic;

mod bpe;
mod bytes;
mod control;
mod data;
mod error;
mod order;
mod pretrained;
mod shard;
mod split;
mod tokenizer;
mod tokenizer_file;
mod zstd;

pub use bpe::{BOS, BpeTokenizer, MAX_D_VOCAB, MIN_D_VOCAB};
pub use control::{FRAGMENT_TOKENS, FragmentOrder, shuffled};
pub use corpus::{Corpus, Document, Flaws, Texts};
pub use data::{Data, Summary, prepare};
pub use error::{Error, Result};
pub use order::{TrainingOrder, example};
pub use pretrained::{PretrainedTokenizer, TokenizerParts};
pub use shard::Shard;
pub use split::{Split, split};
pub use synthetic::{Synthetic, SyntheticTask};
pub use tokenizer::Tokenizer;
