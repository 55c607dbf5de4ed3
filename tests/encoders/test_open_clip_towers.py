"""open_clip's towers as CoOp learns through them, on a small network with random weights."""

import open_clip
import pytest
import torch
from open_clip.model import CLIPTextCfg, CLIPVisionCfg

from tip_adapter.encoders.open_clip.learnable_towers import FineTunedTowers, PromptedTextTower
from tip_adapter.errors import UsageError

KINDS = {"CLIP": open_clip.CLIP, "CustomTextCLIP": open_clip.CustomTextCLIP}
tokenize = open_clip.SimpleTokenizer()


@pytest.fixture(params=KINDS, scope="module")
def network(request):
    torch.manual_seed(0)
    vision = CLIPVisionCfg(layers=1, width=32, head_width=16, patch_size=16, image_size=32)
    text = CLIPTextCfg(width=32, heads=2, layers=2)
    return KINDS[request.param](24, vision, text).eval().requires_grad_(False)


def test_the_embeddings_of_words_as_context_give_the_vector_of_the_sentence(network):
    tower = PromptedTextTower(network, tokenize, "cpu")
    words = tokenize(["a photo of a cat."])[0, 1:5]  # after the start: a photo of a
    context = getattr(network, "text", network).token_embedding(words)
    read = tower.prompts(["cat", "a red dog"], 4)
    expected = network.encode_text(tokenize(["a photo of a cat.", "a photo of a a red dog."]))
    torch.testing.assert_close(read(context), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(network.encode_text(tokenize(["a photo of a cat."])), expected[:1])  # left as it was


def test_gradients_reach_the_context_and_nothing_else(network):
    read = PromptedTextTower(network, tokenize, "cpu").prompts(["cat"], 16)
    context = torch.zeros(16, 32, requires_grad=True)
    (gradient,) = torch.autograd.grad(read(context)[0, 0], context)
    assert gradient.abs().sum(dim=1).min() > 0
    assert all(parameter.grad is None for parameter in network.parameters())


def test_more_context_than_there_is_room_for_is_refused(network):
    with pytest.raises(UsageError, match="room for 75 context vectors, not 90; use fewer"):
        PromptedTextTower(network, tokenize, "cpu").prompts(["cat"], 90)


def test_a_name_that_the_context_leaves_no_room_for_is_refused(network):
    tower = PromptedTextTower(network, tokenize, "cpu")
    tower.prompts(["cat"], 73)  # start, 73 vectors, cat, full stop, end: 77
    with pytest.raises(UsageError, match="'a cat' has no room behind 73 context vectors; use fewer, or a shorter name"):
        tower.prompts(["cat", "a cat"], 73)


def test_a_tower_of_another_library_is_refused():
    with pytest.raises(UsageError, match="own kind, which coop needs"):
        PromptedTextTower(torch.nn.Identity(), tokenize, "cpu")


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_all_that_is_fine_tuned_in_a_tower_takes_part_in_what_it_gives(kind):
    """SigLIP's networks carry a bias beside the logit scale; neither is of a tower."""
    vision = CLIPVisionCfg(layers=1, width=32, head_width=16, patch_size=16, image_size=32)
    siglip = kind(24, vision, CLIPTextCfg(width=32, heads=2, layers=1), init_logit_bias=-10.0)
    towers = FineTunedTowers(siglip.eval().requires_grad_(False), tokenize, "cpu")
    for module, inputs in ((towers.text, towers.tokens(["cat"])), (towers.image, torch.randn(1, 3, 32, 32))):
        learns = [parameter for parameter in module.parameters() if parameter.requires_grad]
        assert len(learns) > 10
        torch.autograd.grad(module(inputs).sum(), learns)


def test_towers_to_be_fine_tuned_are_copies_that_give_the_same(network):
    towers = FineTunedTowers(network, tokenize, "cpu")
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(towers.image(pixels), network.visual(pixels))
    torch.testing.assert_close(towers.text(towers.tokens(["cat"])), network.encode_text(tokenize(["cat"])))
    with torch.no_grad():
        next(iter(towers.image.parameters())).zero_()
        next(iter(towers.text.parameters())).zero_()
    assert all(parameter.any() for name, parameter in network.named_parameters() if name.endswith("class_embedding"))
    assert not any(parameter.requires_grad for parameter in network.parameters())
