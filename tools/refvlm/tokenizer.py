"""The demo model's tokenizer: byte-level BPE in which every word of the generator is one token.

Ids: BOS 0, EOS 1, the special tokens of the paradigm 2..11, the 256 bytes, merges, then the fixed phrases of prompt and
plan as plain added tokens. An added token stands for its literal text, not for the byte-level alphabet.
"""

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

BOS, EOS = "<s>", "</s>"
SPECIAL = ["<Task>", "</Task>", "<Unit>", "</Unit>", "<v>", "</v>", "<Phrase>", "</Phrase>", "<VRT>", "<REF>"]
PHRASES = [
    "Task Command:\n- task name: ",
    "\n- answer element: ",
    "\n- unit: ",
    "\n- unit: None\nUSER: ",
    "\n\nUSER: ",
    " ASSISTANT:",
    "\nUnit decode (True). Class name, target unit and number:\n",
    "\nUnit decode (False).\n",
    "- Name: ",
    " Unit: ",
    " Num: ",
    *(f"[{i}]" for i in range(12)),
]


def train_tokenizer(texts, words=()):
    """Train on an iterator of texts; `words` are added alone, so that each is one token at the start of a piece too."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4000,
        min_frequency=2,
        show_progress=False,
        special_tokens=[BOS, EOS, *SPECIAL],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    corpus = [*texts, *words, *words]
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.add_tokens([AddedToken(p, normalized=False, special=False) for p in PHRASES])
    return tokenizer


def load_tokenizer(path):
    """Read a `tokenizer.json`."""
    return Tokenizer.from_file(str(path))
