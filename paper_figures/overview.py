r"""Figure 2 of arXiv 2602.17088 from a run: one forget image on its way through the method."""

from shared.drawing import main, read

from megu.figures import overview


def draw(data):
    """Of the image and the models that overview.csv and overview_image.csv are about."""
    table, pixels = read(data, "overview").set_index("class"), read(data, "overview_image")
    shape = pixels[["channel", "y", "x"]].max() + 1
    pictures = {name: pixels[name].to_numpy().reshape(shape) for name in ("image", "positive", "negative", "sum")}
    own, chosen = (table.index[table["role"] == role][0] for role in ("own", "chosen"))
    other, found = table["original"].drop(own).idxmax(), read(data, "transition")
    column = found[found["guide"].eq(found["guide"].iloc[0]) & found["class"].eq(other)].set_index("candidate")
    return overview.overview(pictures, table.assign(transition=column["transition"]), own, chosen, other)


if __name__ == "__main__":
    main(overview=draw)
