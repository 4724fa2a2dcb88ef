"""Columns by depth, and lines that pass where there is room."""

from __future__ import annotations

from itertools import combinations

from align.comparison.layers import layered


def test_inputs_stand_left_of_all_that_they_lead_to() -> None:
    edges = [("data", "sft"), ("sft", "dpo"), ("data", "dpo"), ("dpo", "evaluation"), ("sft", "evaluation")]
    found = layered(["evaluation", "dpo", "sft", "data"], edges)
    columns = {node: x for node, (x, _) in found.places.items()}
    assert columns == {"data": 0, "sft": 1, "dpo": 2, "evaluation": 3}
    for source, target in edges:
        route = found.routes[source, target]
        assert (route[0], route[-1]) == (found.places[source], found.places[target])
        # one place a column, so that no line runs through a box
        assert [x for x, _ in route] == list(range(int(columns[source]), int(columns[target]) + 1))
        assert not set(route[1:-1]) & set(found.places.values())


def test_boxes_and_passing_lines_of_a_column_do_not_overlap() -> None:
    nodes = [*"abcdef"]
    edges = [("a", "d"), ("b", "d"), ("c", "e"), ("d", "f"), ("e", "f"), ("a", "f"), ("b", "f")]
    found = layered(nodes, edges)
    boxes = list(found.places.values())
    for (x, y), (u, v) in combinations(boxes, 2):
        assert x != u or abs(y - v) >= 1
    for route in found.routes.values():
        for x, y in route[1:-1]:
            assert all(x != u or abs(y - v) >= 0.5 for u, v in boxes)


def test_two_chains_do_not_cross() -> None:
    """Given crossed, they are sorted beside each other."""
    found = layered(["a", "b", "y", "x"], [("a", "x"), ("b", "y")])
    places = found.places
    assert (places["a"][1] < places["b"][1]) == (places["x"][1] < places["y"][1])


def test_a_circle_ends() -> None:
    """No run goes into itself, but a damaged file must not hang the page."""
    assert set(layered(["a", "b"], [("a", "b"), ("b", "a")]).places) == {"a", "b"}
