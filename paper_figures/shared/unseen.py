r"""Own models on images that no choice was made on: what holds, what does not, and whether the verdict says so."""

NEAR = {"forget": 3.0, "retain": 2.0}  # points from the retrained model


def judged(row):
    r"""How near a row is to the retrained model, and whether its verdict says so.

    *near*: forget accuracy (of training and of unseen images) within 3 points, retained test accuracy within 2.
    A miss is *sure* where the interval of the paired difference leaves the tolerated points out.  ``verdict`` is
    *right* where it names every miss and no other, *wrong* where it is silent about a sure one or says *not
    forgotten*, *partly* or *damaged* of what is near, and *unsure* where it is silent about a miss that so few images
    do not show.
    """
    forget = [part for part in ("forget_train", "forget_test") if row.get(f"{part}_gap") is not None]
    near = {"forget": all(abs(row[f"{part}_gap"]) <= NEAR["forget"] for part in forget)}
    near["retain"] = abs(row["retain_test_gap"]) <= NEAR["retain"]
    sure = {"forget": any(_apart(row, part, NEAR["forget"]) for part in forget)}
    sure["retain"] = row["retain_test_gap_high"] < -NEAR["retain"]
    missed = {"forget": not near["forget"], "retain": row["retain_test_gap"] < -NEAR["retain"]}
    told = {
        "forget": row["forgetting"] not in (None, "forgotten") or row["trace"] == "trace",
        "retain": row["utility"] in ("damaged", "ruined"),
    }
    accused = {"forget": row["forgetting"] in ("partly", "not forgotten"), "retain": told["retain"]}
    untold = row["forgetting"] is None and row["trace"] == "cannot be told"  # says nothing, so nothing wrong
    wrong = [
        part for part in near
        if (sure[part] and not told[part] and not (part == "forget" and untold)) or (accused[part] and near[part])
    ]  # fmt: skip
    silent = [part for part in near if missed[part] and not told[part]]
    return {
        "near_forget": near["forget"], "near_retain": near["retain"],
        "verdict": "wrong" if wrong else "unsure" if silent else "right",
    }  # fmt: skip


def _apart(row, part, points):
    return row[f"{part}_gap_low"] > points or row[f"{part}_gap_high"] < -points
