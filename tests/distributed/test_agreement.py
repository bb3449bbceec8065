"""One route for machines of several kinds, without a cluster."""


from typing import Any, Self

import pytest

from pipeline.distributed.agreement import LIMITS, Offer, Terms, agreed, confirmed
from pipeline.distributed.attempts import Patience
from pipeline.distributed.pools import NODE_ID, ActorPool, gpu_share
from pipeline.distributed.ray_cluster import Nodes
from pipeline.errors import InputError

BIG, SMALL, OLD = "cpu-avx512-fp32-packed", "cpu-avx2-fp32-packed", "cpu-x86_64-fp32-packed"
H100, A100 = "cuda-sm90-fp32-eager", "cuda-sm80-fp32-eager"
ARM = "cpu-aarch64-fp32-eager"


def offers(*routes: str) -> dict[str, Offer]:
    return {f"node{i}": Offer(route) for i, route in enumerate(routes)}


def test_machines_of_one_kind_take_their_route_unlimited() -> None:
    terms = agreed(offers(BIG, BIG))
    assert (terms.route, terms.limits, terms.kept_out) == (BIG, {}, {})
    assert terms.providers == {"node0", "node1"}


def test_mixed_cpus_are_limited_to_the_least_of_them() -> None:
    terms = agreed(offers(BIG, SMALL, BIG))
    assert (terms.route, terms.limits, terms.kept_out) == (SMALL, LIMITS["avx2"], {})
    assert agreed(offers(BIG, SMALL, OLD)).limits == LIMITS["x86_64"]


def test_a_root_that_has_a_route_keeps_it_and_who_cannot_follow_is_kept_out() -> None:
    terms = agreed(offers(BIG, SMALL), preferred=BIG)
    assert (terms.route, terms.limits, set(terms.providers)) == (BIG, {}, {"node0"})
    assert SMALL in terms.kept_out["node1"]
    assert agreed(offers(BIG, BIG), preferred=SMALL).limits == LIMITS["avx2"]
    assert agreed(offers(SMALL, SMALL), preferred=BIG).route == SMALL   # nobody can


def test_gpus_of_two_models_and_cpus_of_two_makes_go_by_the_most_and_the_others_are_kept_out() -> None:
    terms = agreed(offers(A100, H100, H100))
    assert (terms.route, terms.limits, set(terms.kept_out)) == (H100, {}, {"node0"})
    assert agreed(offers(ARM, SMALL, ARM)).route == ARM


def test_one_arithmetic_is_not_limited_to_another() -> None:
    """bf16 in avx2 has no packed form; fp32 is another precision."""
    terms = agreed(offers("cpu-avx512-bf16-packed", "cpu-avx2-fp32-packed"))
    assert terms.limits == {}
    assert len(terms.kept_out) == 1


def test_nobody_is_limited_where_nobody_has_more_and_none_by_its_own_kind_to_another_form() -> None:
    assert agreed(offers(SMALL, SMALL)).limits == {}
    assert agreed(offers(OLD, OLD), preferred=OLD).limits == {}
    terms = agreed(offers("cpu-avx2-fp32-eager", SMALL, SMALL))   # without oneDNN's packed operators
    assert (terms.route, terms.limits, set(terms.providers)) == (SMALL, {}, {"node1", "node2"})


def test_who_does_not_keep_the_limits_is_kept_out() -> None:
    terms = agreed(offers(BIG, SMALL))
    under_limits = confirmed(terms, {"node0": Offer("cpu-avx2-fp32-eager"), "node1": Offer(SMALL)})
    assert under_limits.providers == {"node1"}
    assert "cpu-avx2-fp32-eager" in under_limits.kept_out["node0"]
    with pytest.raises(InputError, match="no node can compute by the route"):
        confirmed(terms, {"node0": Offer(BIG)})


def test_where_no_node_has_a_route_the_reason_of_one_is_given() -> None:
    with pytest.raises(InputError, match="the driver is too old"):
        agreed({"a": Offer(why="the driver is too old"), "b": Offer(why="the driver is too old")})


def test_a_node_whose_gpu_cannot_be_used_is_kept_out_with_its_reason() -> None:
    assert agreed({"a": Offer(why="the driver is too old"), "b": Offer(H100)}).kept_out == {"a": "the driver is too old"}


def test_terms_know_whether_they_are_for_gpus() -> None:
    assert Terms(H100).on_gpu
    assert not Terms(SMALL).on_gpu


@pytest.mark.parametrize("actors", range(1, 65))
def test_as_many_actors_as_are_wanted_share_a_gpu(actors: int) -> None:
    amount = gpu_share(actors)
    assert round(amount * 10_000) * actors <= 10_000, "the last finds no room"
    assert Nodes({"a": {"CPU": 999.0, "GPU": 8.0}}).fits(1, amount) == 8 * actors


def test_actors_per_gpu_are_by_default_the_cpus_that_the_poorest_node_has_for_one() -> None:
    assert Nodes({"a": {"CPU": 48.0, "GPU": 4.0}, "b": {"CPU": 8.0, "GPU": 1.0}, "c": {"CPU": 2.0}}).cpus_per_gpu() == 8
    assert Nodes({"a": {"CPU": 1.0, "GPU": 8.0}}).cpus_per_gpu() == 1
    assert Nodes({"a": {"CPU": 4.0}}).cpus_per_gpu() == 1


def test_nodes_that_are_kept_out_have_no_seats() -> None:
    nodes = Nodes({"a": {"CPU": 4.0, "GPU": 1.0}, "b": {"CPU": 3.0}}, {"a": "alpha"})
    assert nodes.without({"a"}).fits(1, 0) == 3
    assert nodes.without({"a", "b"}).fits(1, 0) == 0
    assert nodes.name("a") == "node alpha (a)"


def test_a_pool_has_no_seats_on_nodes_that_its_terms_keep_out() -> None:
    nodes = Nodes({"a": {"CPU": 4.0, "GPU": 1.0}, "b": {"CPU": 3.0, "GPU": 1.0}})
    out = Terms(H100, kept_out={"a": "it computes otherwise"})
    assert ActorPool(object, None, Patience()).seats(nodes) == 7
    assert ActorPool(object, None, Patience(), out).seats(nodes) == 3
    assert ActorPool(object, None, Patience(), out, gpus=gpu_share(2)).seats(nodes) == 2
    assert ActorPool(object, 5, Patience(), out).seats(nodes) == 5


def test_new_actors_of_a_pool_stay_away_from_the_nodes_that_are_kept_out() -> None:
    """Said to Ray by name: a check on the node itself would find them out as well, one lost actor later."""
    class Asked:
        def options(self, **options: Any) -> Self:
            self.asked = options
            return self

        def remote(self, *arguments: Any) -> dict[str, Any]:
            return self.asked

    nodes = Nodes({"a": {"CPU": 1.0}, "b": {"CPU": 1.0}, "c": {"CPU": 1.0}})
    pool = ActorPool(object, None, Patience(), Terms(SMALL, kept_out={"b": "it computes otherwise"}))
    pool._class = Asked()
    assert pool.fresh() == {"label_selector": {NODE_ID: "!in(b)"}}
    assert pool.keep_out("a", nodes, "it has no model")
    assert pool.fresh() == {"label_selector": {NODE_ID: "!in(a,b)"}}
    assert not pool.keep_out("c", nodes, "nor has this one")
    free = ActorPool(object, None, Patience())
    free._class = Asked()
    assert free.fresh() == {}
