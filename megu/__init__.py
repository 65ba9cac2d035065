r"""Machine unlearning guided by a multimodal model: a reference reproduction of MeGU (arXiv 2602.17088).

`megu.unlearn` makes your own classifier forget.  Reading order; a module imports only what stands above it:

    classes       names of classes, superclasses, and sensible neighbours
    cells         the cells of the paper's tables
    values        nested values, checked
    config        settings and their parts
    profiles      quick, small, paper
    disk          files that appear whole or not at all
    store         run directory, manifest, stages
    team          the processes that train one model
    device        device, precision, seeds, stopwatch
    memory        the most that a block of work held
    data          images on the device, batched augmentation
    content       what data are, whatever the order of their images
    download      a large file from a host
    sources       where the images come from
    splits        what is forgotten, retained, held out
    pretrained    ImageNet weights of ViT-B/16
    models        classifiers and the features seam
    keymap        names of the weights of a ResNet trained elsewhere
    train         the only training loop
    owndata       images that a user brings
    ownmodel      a classifier that a user brings
    distances     how far two models are from each other
    features      how alike concepts are: centroids, CKA, probes, neighbours
    patterns      associated and unique patterns, the entanglement index
    maps          where in the image patterns are seen
    disentangle   whether unlearning cut the right patterns
    parts         images whose classes are known sets of parts
    guide         who says which concepts are alike
    transition    similarity, transition matrix, perturbing labels (eq. 4-8)
    noise         the positive-negative noise pair (eq. 9-10)
    flops         operations of a network, counted
    task          one unlearning request, as every method receives it
    methods       MeGU and what it is compared with
    work          how many images each method sends through the network
    truth         the measures against the known parts
    attacks       membership inference
    evaluate      every metric from one forward pass per split
    tables        tidy rows to means, intervals and gaps
    grid_tables   a grid's tables, one grid at a time
    reported      what the paper printed
    paper_tables  our grid in the layout of the paper's tables
    shadows       shadow models of the likelihood-ratio attack
    asking        what a run asks its guide
    making        how a run's models are made, each once
    experiment    a run: which pieces exist, and how they are made
    cost          what a run costs: measured lines, counted operations
    costing       seconds and memory of every stage, measured
    pretrain      originals and retrained models, by several processes
    relearn       how fast the forgotten comes back
    deletion      a user's request: names or positions to a split
    checkpoint    a classifier with all that it needs elsewhere
    standin       what stands in for data that are not here and for long trainings
    acts          every stage of a run once, with the true shapes
    rehearsal     the stages tried and measured
    ownguide      who says which of a user's classes are alike
    plan          what is checked and estimated before any work
    findings      what a deletion report says
    verdict       the word that it comes to, and by which rule
    workers       pieces of work in several processes
    slots         a pool of processes, one for each GPU
    tune          choice of hyper-parameters on validation images
    ablation      MeGU's open points, changed one at a time
    spec          one entry of a grid, and the key of its result
    schedule      pieces of work that wait for each other
    cellrun       what the models of one cell share
    grid          the paper's cells, each result once
    comparison    every method in every scenario
    style         how figures look
    heatmaps      matrices to figures
    figures       tables to figures
    grid_figures  the grid's tables to figures
    cost_figures  measured costs to figures
    pattern_figures   entanglement and what unlearning cut, to figures
    report        the deletion report, HTML and JSON
    unlearning    your own model: from a request to a new model and its report
    batch         notebooks run by papermill
    executors     where a grid runs
    options       what several commands of the command line share
    own_commands  the commands for your own model
    cost_commands  the commands about what a run needs
    grid_command  the command for the paper's experiments
    pretrain_command  the command for pretrain
    checkpoint_command  the command that exports a model
"""

__version__ = "0.2.0"


def __getattr__(name):
    # `import megu` stays light: torch takes seconds.
    if name == "unlearn":
        from megu.unlearning import unlearn  # noqa: PLC0415

        return unlearn
    raise AttributeError(f"module 'megu' has no attribute {name!r}")
