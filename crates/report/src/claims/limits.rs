//! The limits that rules hold numbers against, where the words beside a verdict quote them, too.
//! The others stand in the rules themselves.

/// The deepest bump is this many times as deep as any other, or it is not "the only place".
pub(super) const Q7_DEPTH_RATIO: f64 = 2.0;
/// Last index of the paper's "first ten tokens", with neighbours against noise.
pub(super) const Q18_INDICES: [usize; 2] = [8, 12];
/// A smaller advantage has no shares.
pub(super) const Q18_ADVANTAGE_FROM: f64 = 0.02;
/// Fewer sizes have no order to speak of.
pub(super) const SIZES_FROM: usize = 3;
/// Uniform attention scores 0.03 on the paper's sample; strictly above 0 are all heads.
pub(super) const Q15_PREFIX_MATCHING_ABOVE: f64 = 0.1;
/// Half-way from a head that raises all tokens alike to the ceiling of its rank.
pub(super) const Q15_COPIES_FROM: f64 = 0.5;
pub(super) const Q15_OV_FROM: f64 = 0.5;
/// A head that raises all 25 tokens of the sample alike scores -0.85: only below that it does the
/// opposite of copying.
pub(super) const Q23_COPYING_BELOW: f64 = -0.9;
pub(super) const Q23_LAYERS_ABOVE: usize = 16;
/// How many times the attention must be what chance gives, and how many standard errors beyond it.
pub(super) const M4_TIMES_CHANCE: f64 = 2.0;
pub(super) const M4_ERRORS: f64 = 2.0;
pub(super) const M6_PREFIX_MATCHING_FROM: f64 = 0.5;
pub(super) const M6_SECOND_BELOW: f64 = 0.5;
pub(super) const M6_TIMES_CONTROL: f64 = 3.0;
/// What the pattern of the best heads is worth, as a share of what they are worth: as much, or half
/// of it to half again.
pub(super) const M8_AS_MUCH: [f64; 2] = [0.75, 1.25];
pub(super) const M8_PARTLY: [f64; 2] = [0.5, 1.5];
/// What the pattern of random heads may be worth beside that.
pub(super) const M8_CONTROL_AT_MOST: f64 = 1.0 / 3.0;
/// Heads below this are taken for heads that match no prefixes.
pub(super) const B2_OTHERS_BELOW: f64 = 0.1;
/// A head below this is no induction head (paper.md, 11), and when it "formed" means nothing.
pub(crate) const INDUCTION_HEAD_ABOVE: f64 = 0.3;
/// Of the rest, a head above this is a previous-token head (paper.md, 11).
pub(crate) const PREVIOUS_TOKEN_HEAD_ABOVE: f64 = 0.3;
