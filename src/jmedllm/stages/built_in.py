"""The built-in corpora of recipes."""

from jmedllm.corpus import demo

BUILT_IN = {
    "demo": lambda: demo.documents(),
    "demo-without-test-facts": lambda: demo.documents(test_facts=False),
}
"""Built-in corpora, by their name in a recipe's inputs."""
