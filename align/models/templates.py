"""The chat templates that are built in: jinja text and nothing else.

Each marks the reply with ``{% generation %}``, as trl and transformers expect where they mask by turn.
``START`` and ``END`` stand for jinja expressions that ``tokenizer.py`` fills in from the tokenizer.
"""

from __future__ import annotations

SCRATCH = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}"
    "{% else %}{{ message['content'] }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
"""For tokenizers trained here: each turn begins with a special token, a reply ends with eos."""

PLAIN = (
    "START"
    "{% for message in messages %}"
    "{{ message['role'] | capitalize + ':\n' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + END }}{% endgeneration %}"
    "{% else %}{{ message['content'] }}{% endif %}"
    "{% if not loop.last or add_generation_prompt %}{{ '\n\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:\n' }}{% endif %}"
)
"""For tokenizers that bring no template: ``User:`` and ``Assistant:`` on lines of their own."""

RAW = (
    "START"
    "{% for message in messages %}"
    "{% if loop.last and message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + END }}{% endgeneration %}"
    "{% else %}{{ message['content'] }}{% endif %}"
    "{% endfor %}"
)
"""``model.chat_template=raw``: contents joined as they are; only the reply is ended."""
