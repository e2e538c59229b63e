//! The one error of the crate.

/// Why a measurement could not be taken. Examples, heads, queries and keys are counted from 0,
/// context indices from 1.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is nothing to average over.
    #[error("expected at least one example in {what}, found none: pass a batch that is not empty")]
    NoExamples {
        /// The argument that is empty.
        what: &'static str,
    },

    /// The in-context learning score has no room in this context.
    #[error(
        "the in-context learning score at index {early} and {late} (+-{half_width}) does not fit a context of {n_ctx} \
         tokens: expected 1 <= early - half_width, early + half_width < late - half_width and late + half_width <= \
         {n_ctx}; use IclIndices::for_context or a longer context"
    )]
    Indices {
        /// The early index asked for.
        early: usize,
        /// The late index asked for.
        late: usize,
        /// The half width asked for.
        half_width: usize,
        /// The context there is.
        n_ctx: usize,
    },

    /// No in-context learning score exists for so short a context.
    #[error(
        "expected a context of at least {expected} tokens, found {found}: below that no early index is left"
    )]
    ShortContext {
        /// The shortest context that has an early and a late index.
        expected: usize,
        /// The context there is.
        found: usize,
    },

    /// A loss is NaN or infinite.
    #[error(
        "expected finite losses, found {value} in example {example} at index {index}: the model has diverged, or its \
         logits overflow; look at the snapshot before"
    )]
    Loss {
        /// The example, from 0.
        example: usize,
        /// The context index of the paper, from 1.
        index: usize,
        /// What was found.
        value: f32,
    },

    /// An array has another shape than its neighbours demand.
    #[error(
        "expected {what} to be {expected}, found {found}: pass arrays of the same examples, heads and tokens"
    )]
    Shape {
        /// The argument, with the names of its axes.
        what: &'static str,
        /// The shape that would fit.
        expected: String,
        /// The shape there is.
        found: String,
    },

    /// A row of an attention pattern is not a probability distribution over the keys up to the
    /// query.
    #[error(
        "row (example {example}, head {head}, query {query}) of the attention pattern is no causal distribution: \
         expected entries >= 0 that sum to 1 over keys <= {query} and to 0 after, found {found}; pass the pattern \
         after mask and softmax, with axes [example, head, query, key]"
    )]
    Pattern {
        /// The example, from 0.
        example: usize,
        /// The head, from 0.
        head: usize,
        /// The query, from 0.
        query: usize,
        /// What is wrong with the row.
        found: String,
    },

    /// A direct-path logit is NaN or infinite.
    #[error(
        "expected finite logits, found {value} for head {head}, source {source_index}, token {token}: check the weights"
    )]
    Logit {
        /// The head, from 0.
        head: usize,
        /// The source position, from 0.
        source_index: usize,
        /// The token id.
        token: usize,
        /// What was found.
        value: f32,
    },

    /// A token id lies outside the vocabulary of the logits.
    #[error(
        "expected token ids below d_vocab = {d_vocab}, found {token} at position {position}: use the model's own tokenizer"
    )]
    Token {
        /// The token id.
        token: u32,
        /// Its position in the sample, from 0.
        position: usize,
        /// The size of the vocabulary.
        d_vocab: usize,
    },

    /// A sample asks for more distinct tokens than are allowed.
    #[error(
        "expected at least {expected} allowed tokens to draw distinct ones from, found {found}: use a smaller block, or \
         drop fewer tokens from the list"
    )]
    TooFewTokens {
        /// How many the sample needs.
        expected: usize,
        /// How many the list holds, without repeats and without the start token.
        found: usize,
    },

    /// A weight that does not fit the others, or holds no number.
    #[error(
        "{name}: expected {expected}, found {found}; the weights are damaged or of another model"
    )]
    Weight {
        /// The parameter.
        name: String,
        /// What would fit.
        expected: String,
        /// What there is.
        found: String,
    },

    /// A setting lies outside the values that make sense.
    #[error("expected {name} to be {expected}, found {found}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// The values that make sense.
        expected: &'static str,
        /// The value there is.
        found: String,
    },

    /// A curve over training is unusable.
    #[error(
        "a curve over training must {expected}, found {found}: pass the snapshots in training order"
    )]
    Curve {
        /// What a curve must satisfy.
        expected: &'static str,
        /// What was found, and where.
        found: String,
    },
}
