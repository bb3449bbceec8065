import pytest

from pipeline.queries.thin_classes import too_many_classes


@pytest.mark.parametrize(("k", "samples", "single", "classes", "said"), [
    (32, 5, 5, 5, "classes.k is 32 for 5 samples: --set classes.k=1, or null for none, suits so few"),
    (500, 400, 0, 400, "classes.k is 500 for 400 samples: --set classes.k=20 or fewer would give each class 20 samples or more"),
    (100, 200, 60, 100, "60 of 100 classes have one sample or none (classes.k is 100 for 200 samples): --set classes.k=10"),
    (100, 200, 50, 100, ""),
    (32, 0, 0, 0, ""),
    (200, 200, 0, 0, ""),
])
def test_more_classes_than_the_samples_are_worth_are_named_with_a_number_that_suits(
    k: int, samples: int, single: int, classes: int, said: str,
) -> None:
    found = too_many_classes(k, samples, single, classes)
    assert found.startswith(said)
    assert bool(found) == bool(said)
