"""Configuration of the small transformers of "In-context Learning and Induction Heads" (Olsson et al. 2022)."""
from transformers import PretrainedConfig


class InductionConfig(PretrainedConfig):
    model_type = "induction"
    _auto_class = "AutoConfig"
    attribute_map = {
        "num_hidden_layers": "n_layers", "hidden_size": "d_model", "num_attention_heads": "n_heads", "head_dim": "d_head",
        "intermediate_size": "d_mlp", "max_position_embeddings": "n_ctx", "vocab_size": "d_vocab",
    }

    def __init__(
        self,
        n_layers=2,
        d_model=128,
        n_heads=4,
        d_head=32,
        d_mlp=0,  # 0: attention only
        n_ctx=512,
        d_vocab=512,
        normalization="LN",  # or "none"
        smeared_keys=False,
        position_base=10000.0,
        pos_gain_init=(1.0, 0.1),  # initial positional gain of the first layer and of every later one
        layer_norm_eps=1e-5,
        tie_word_embeddings=False,
        **kwargs,
    ):
        if normalization not in ("LN", "none"):
            raise ValueError(f'normalization = {normalization!r}: expected "LN" or "none"')
        if tie_word_embeddings:
            raise ValueError("tie_word_embeddings: these models have an unembedding of their own")
        self.n_layers = n_layers
        self.d_model = d_model
        self.n_heads = n_heads
        self.d_head = d_head
        self.d_mlp = d_mlp
        self.n_ctx = n_ctx
        self.d_vocab = d_vocab
        self.normalization = normalization
        self.smeared_keys = smeared_keys
        self.position_base = position_base
        self.pos_gain_init = list(pos_gain_init)
        self.layer_norm_eps = layer_norm_eps
        super().__init__(tie_word_embeddings=tie_word_embeddings, **kwargs)
