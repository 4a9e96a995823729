"""Prompt and answer text in the layout of the reference, cut into pieces between image and visual prompts.

The parts of the layout are data in `config.json` (`prompt_template`), so the Rust prompt builder reads the same.
"""

IMAGE = "<image>"
VISUAL_PROMPT = "[VPT]"

# The image stands first, so that all questions about it share its key and value cache.
TEMPLATE = {
    "system_prefix": IMAGE,
    "system": "{system}\n",
    "instruction": "USER: {input} ASSISTANT:",
    "sep": "\n",
}


def command(task, elements, units):
    """The task command. As in the reference a command with a unit ends in a newline and one without does not."""
    text = f"Task Command:\n- task name: {task}\n- answer element: {', '.join(elements)}\n- unit: "
    if not units:
        return text + "None"
    return text + ", ".join(f"<Unit>{u}</Unit>" for u in units) + "\n"


def prompt_text(task, elements, units, question, template=TEMPLATE):
    """The whole prompt with its placeholders."""
    system = template["system"].replace("{system}", command(task, elements, units))
    return template["system_prefix"] + system + template["instruction"].replace("{input}", question)


def plan_text(items):
    """The VD-CoT block for a list of {name, unit, num}; an empty list says that nothing is decoded."""
    if not items:
        return "<Task>\nUnit decode (False).\n</Task>\n"
    lines = "".join(f"- Name: {i['name']} Unit: {i['unit']} Num: {i['num']}\n" for i in items)
    return f"<Task>\nUnit decode (True). Class name, target unit and number:\n{lines}</Task>\n"


def pieces(text):
    """The text between placeholders and the placeholders themselves, in order; empty text is dropped."""
    out = []
    for i, part in enumerate(text.split(IMAGE)):
        if i:
            out.append(IMAGE)
        for j, piece in enumerate(part.split(VISUAL_PROMPT)):
            if j:
                out.append(VISUAL_PROMPT)
            if piece:
                out.append(piece)
    return out


def encode_prompt(tokenizer, text, bos, image_tokens, prompt_tokens):
    """Ids with BOS first; every `<image>` becomes `image_tokens` times -200 and every `[VPT]` `prompt_tokens` times -300."""
    ids = [bos]
    for piece in pieces(text):
        if piece == IMAGE:
            ids += [-200] * image_tokens
        elif piece == VISUAL_PROMPT:
            ids += [-300] * prompt_tokens
        else:
            ids += tokenizer.encode(piece, add_special_tokens=False).ids
    return ids


def encode_answer(tokenizer, plan, answer, eos):
    """Ids of plan and answer as one text, then EOS."""
    return tokenizer.encode(plan_text(plan) + answer, add_special_tokens=False).ids + [eos]
