# Written from book/errata.md by `make scripts`. Edit that page, not this file.

# %% [markdown]
# (errata)=
# # Errata
#
# **Which formulas in the lectures fail when they are run, and what holds in their place?** Every slip of the
# [ledger](claims.md) has one entry below: what the slide says, a cell in which it fails, the correction, and a cell in
# which the correction holds. Mostly the same few lines run in both; only the slip and its correction change places.
#
# Two things first. These are good lectures, and we learned from all of them. Nobody writes a hundred slides without a
# slip, or a hundred cells. And we know them by *transcripts* of their slides alone. A sign, a square or an index that
# went astray may have done so on the way from the picture to the text. "As transcribed" means just that, in every
# entry.
#
# The lectures are {cite:t}`blaettchen`, {cite:t}`cab420`, {cite:t}`dast2022`, {cite:t}`schonhuth2019` and
# {cite:t}`trinh2021`. The entries follow the order of the chapters.

# %%
import warnings

import keras
import numpy as np
from keras import layers

import calipers

seeds = calipers.choose(smoke=[0], quick=[0, 1, 2], full=[0, 1, 2, 3, 4])


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


# %% [markdown]
# ## A first network
#
# (err-softmax-sign)=
# ### The softmax with a minus sign
#
# **As transcribed** {cite}`blaettchen`: $\hat y_k = e^{-z_k} \big/ \sum_{k=1}^{K} e^{-z_k}$.
#
# **It fails.** The class with the largest score gets the smallest probability. Take 1,000 random rows of ten scores.

# %%
def softmax(scores, sign):
    powers = np.exp(sign * scores)
    return powers / powers.sum(axis=1, keepdims=True)


scores = np.random.default_rng(0).normal(size=(1000, 10))
turned = softmax(scores, -1).argmin(axis=1) == scores.argmax(axis=1)
calipers.record(
    "err-softmax-sign-fails",
    int(turned.sum()),
    equals=1000,
    title="Of 1,000 rows, those whose largest score gets the smallest probability",
)

# %% [markdown]
# In {glue:text}`err-softmax-sign-fails.mean:,.0f` of them it does.
#
# **It holds** with a plus sign, and with a letter of its own for the sum: $e^{z_k} / \sum_j e^{z_j}$. (The sum's $k$
# hides the other one. Whoever programs it with one variable divides $e^{z_k}$ by $K$ times itself and gets $1/K$ for
# every class.)

# %%
differ = abs(softmax(scores, 1) - array(keras.ops.softmax(scores))).max(axis=1) > 1e-5
calipers.record(
    "err-softmax-sign-holds",
    int(differ.sum()),
    equals=0,
    title="Of 1,000 rows, those in which we and Keras differ",
)

# %% [markdown]
# Keras differs in {glue:text}`err-softmax-sign-holds`. A net could learn with the minus sign, all scores turned round;
# only it would fit no library. In the sigmoid $1/(1 + e^{-z})$ the minus is right, which may be where it came from.
#
# **In the book:** {ref}`first network, what the lectures said <sec-first-lectures>`.
#
# (err-cross-entropy-base)=
# ### Cross-entropy in base ten, and 0 log 0
#
# **As transcribed** {cite}`cab420`: a true class given a millionth costs $-\log 0.000001 = 6$; one given 0.4 costs
# 0.39; and for a perfect answer $0 \times \log 0 + 0 \times \log 0 + 1 \times \log 1$ gives "inf + inf + 0".
#
# **It fails.** The slide's logarithm has base ten (and $-\log_{10} 0.4$ is 0.398). Keras's is the natural one. Here are
# the three examples, with 0 log 0 infinite.

# %%
target = np.array([0.0, 0.0, 1.0])
guesses = np.array([[0, 0, 1], [1e-6, 1, 1e-6], [0.2, 0.4, 0.4]])
by_keras = array(keras.losses.categorical_crossentropy(target + 0 * guesses, guesses))


def costs(log, zero_log_zero):
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = target * log(guesses)
    terms[(target == 0) & (guesses == 0)] = zero_log_zero
    return -terms.sum(axis=1)


wrong = abs(costs(np.log10, -np.inf) - by_keras) > 1e-4
calipers.record(
    "err-cross-entropy-base-fails",
    int(wrong.sum()),
    equals=3,
    title="Of the slide's three costs, those that Keras contradicts",
)

# %% [markdown]
# Keras contradicts {glue:text}`err-cross-entropy-base-fails` of them.
#
# **It holds** with the natural logarithm, and with $0 \log 0 = 0$: since $t \log p$ is 0 for every $p > 0$ when
# $t = 0$, by continuity it is 0 at $p = 0$ too.

# %%
wrong = abs(costs(np.log, 0) - by_keras) > 1e-4
calipers.record(
    "err-cross-entropy-base-holds",
    int(wrong.sum()),
    equals=0,
    title="Of the three corrected costs, those that Keras contradicts",
)
for name, cost in zip(("perfect", "millionth", "two-fifths"), costs(np.log, 0)):
    calipers.record(
        f"err-cross-entropy-base-{name}",
        cost,
        "nats",
        between={"perfect": (0, 0), "millionth": (13.8, 13.9)}.get(name, (0.91, 0.92)),
        title=f"Cost of the lecture's example, {name}",
    )


# %% [markdown]
# Of these Keras contradicts {glue:text}`err-cross-entropy-base-holds`. The three costs are
# {glue:text}`err-cross-entropy-base-perfect`, {glue:text}`err-cross-entropy-base-millionth` and
# {glue:text}`err-cross-entropy-base-two-fifths`. The base alone is a matter of units. It matters once one
# differentiates: only in base $e$ is the gradient $p - t$.
#
# **In the book:** {ref}`first network, what the lectures said <sec-first-lectures>`.
#
# ## Initialisation
#
# (err-sigma-inverse)=
# ### Weights as wide as the root of the inputs
#
# **As transcribed** {cite}`schonhuth2019`: "$\sigma := \sqrt{n_\text{in}}$, so sample weights from
# $\mathcal N_{0, \sqrt{n_\text{in}}}$", so that the input $z$ to the next node "will (roughly) be sampled from
# $\mathcal N_{0,1}$".
#
# **It fails.** A sum of $n_\text{in}$ independent products, each of variance $\sigma^2$, has the variance
# $n_\text{in} \sigma^2$. With the slide's $\sigma$ that is $n_\text{in}^2$. Try 784 inputs.

# %%
def spread_of_z(sigma, inputs=784):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, inputs))
    return (x @ rng.normal(0, sigma, (inputs, 100))).std()


calipers.record(
    "err-sigma-inverse-fails",
    spread_of_z(784**0.5),
    at_least=100,
    title="Standard deviation of z with weights of √784",
)

# %% [markdown]
# The standard deviation of $z$ is {glue:text}`err-sigma-inverse-fails.mean:.0f`, not 1.
#
# **It holds** with $\sigma = 1/\sqrt{n_\text{in}}$.

# %%
calipers.record(
    "err-sigma-inverse-holds",
    spread_of_z(1 / 784**0.5),
    between=(0.95, 1.05),
    title="Standard deviation of z with weights of 1/√784",
)


# %% [markdown]
# Now it is {glue:text}`err-sigma-inverse-holds.mean:.3f`. The slide's explanation belongs to this formula, so that a
# lost fraction bar is the likely story.
#
# **In the book:** {ref}`initialisation, what the lectures said <sec-init-lectures>`.
#
# (err-glorot-is-lecun)=
# ### Glorot's variance
#
# **As transcribed** {cite}`dast2022`, under "Glorot (Xavier) initialisation": weights have "variance of $1/n$, where
# $n$ is the number of weights connected to this node from previous layer"; "By default, Keras uses Glorot
# initialisation".
#
# **It fails.** The last sentence is true, so Keras can judge the first. If the variance were $1/n_\text{in}$, then
# $n_\text{in}$ times the variance would be 1, in a layer from 400 to 100 units and in one from 100 to 400.

# %%
def misfit(count):
    """By how much count(fan_in, fan_out) times the variance misses 1 in Keras."""

    def largest(seed):
        off = []
        for fan_in, fan_out in ((400, 100), (100, 400)):
            layer = layers.Dense(fan_out)
            layer.build((None, fan_in))
            off.append(abs(count(fan_in, fan_out) * array(layer.kernel).var() - 1))
        return {"off": max(off)}

    return calipers.over_seeds(largest, seeds, "misfit")["off"]


calipers.record(
    "err-glorot-is-lecun-fails",
    misfit(lambda fan_in, fan_out: fan_in),
    at_least=0.5,
    title="Error of 1/n, n inputs, for the variance of Keras's default",
)

# %% [markdown]
# It misses by {glue:text}`err-glorot-is-lecun-fails.mean:.2f`, in one layer up, in the other down.
#
# **It holds** with the mean of both sides, as {cite:t}`glorot2010` have it: variance $2/(n_\text{in} + n_\text{out})$.
# The variance $1/n_\text{in}$ is LeCun's {cite}`lecun1998efficient`.

# %%
calipers.record(
    "err-glorot-is-lecun-holds",
    misfit(lambda fan_in, fan_out: (fan_in + fan_out) / 2),
    at_most=0.05,
    title="Error of 2/(inputs + outputs) for the variance of Keras's default",
)


# %% [markdown]
# That misses by {glue:text}`err-glorot-is-lecun-holds.mean:.3f`, which is the luck of 40,000 draws. In a square layer
# the two are the same; and the forward pass alone does ask for $1/n_\text{in}$. Glorot's mean is the compromise with
# the way back.
#
# **In the book:** {ref}`initialisation, what the lectures said <sec-init-lectures>`.
#
# ## Optimisers
#
# (err-minimise-gradient)=
# ### Minimising the gradient
#
# **As transcribed** {cite}`cab420`: "Evaluate the gradient. Move in a direction that minimises the gradient."
#
# **It fails** when it is taken at its word. The gradient is smallest where the loss is flat, and a hilltop is flat too.
# The loss $L(w) = \cos w$ has a top at 0 and a valley at $\pi$. Start just beside the top, and descend half the squared
# gradient.

# %%
def loss_at_the_end(slope, w=0.1):
    """The loss cos w after 500 steps against a slope."""
    for _ in range(500):
        w = w - 0.1 * slope(w)
    return np.cos(w)


def of_the_loss(w):
    return -np.sin(w)


def of_the_squared_gradient(w):
    return np.sin(w) * np.cos(w)  # of sin(w)**2 / 2


calipers.record(
    "err-minimise-gradient-fails",
    loss_at_the_end(of_the_squared_gradient),
    at_least=0.999,
    title="Loss cos w where minimising the gradient ends",
)

# %% [markdown]
# It ends with a loss of {glue:text}`err-minimise-gradient-fails`: on the hilltop, the worst place there is.
#
# **It holds** for the loss: move *against the gradient*, the direction in which the loss falls fastest.

# %%
calipers.record(
    "err-minimise-gradient-holds",
    loss_at_the_end(of_the_loss),
    at_most=-0.999,
    title="Loss cos w where moving against the gradient ends",
)

# %% [markdown]
# Now it ends at {glue:text}`err-minimise-gradient-holds`. The lecture's pictures go downhill, so it is the sentence
# that slipped.
#
# **In the book:** {ref}`optimisers <ch-optimisers>`, under *Down the loss, not down the gradient*.
#
# (err-epsilon-place)=
# ### Epsilon inside Adam's root
#
# **As transcribed** {cite}`blaettchen`: RMSprop divides by $\sqrt{s + \varepsilon}$, and Adam moves by
# $\alpha\, \widehat m \big/ \sqrt{\widehat s + \varepsilon}$.
#
# **It fails** for Adam where gradients are small. Three steps, for gradients from $10^{-6}$ to $10^{-4}$, beside
# Keras's Adam.

# %%
g = np.array([1e-6, 1e-5, 1e-4])


def keras_moves(optimiser, many=3):
    """Where Keras's optimiser takes zeros in a few steps along -g."""
    variable = keras.Variable(np.zeros(3, "float32"))
    for _ in range(many):
        optimiser.apply([keras.ops.convert_to_tensor(g.astype("float32"))], [variable])
    return array(variable)


def adam_moves(divisor, many=3):
    """The same by hand, with a divisor made of the averaged squares, step and epsilon."""
    theta, m, v = 0, 0, 0
    for t in range(1, many + 1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        theta = theta - m / (1 - 0.9**t) / divisor(v, 1 - 0.999**t, 1e-7)
    return theta


def inside(v, filled, epsilon):
    return np.sqrt(v / filled + epsilon)


def outside(v, filled, epsilon):
    return (np.sqrt(v) + epsilon) / np.sqrt(filled)


def disputed(moves, by_keras):
    """Of three moves, those from which Keras's differ by more than a thousandth."""
    print("ours over Keras's:", (moves / by_keras).round(3))
    return int(np.sum(abs(moves / by_keras - 1) > 1e-3))


by_adam = keras_moves(keras.optimizers.Adam(1.0))
calipers.record(
    "err-epsilon-place-fails",
    disputed(adam_moves(inside), by_adam),
    equals=3,
    title="Of three moves with epsilon inside the root, those that Keras's Adam disputes",
)

# %% [markdown]
# Keras disputes {glue:text}`err-epsilon-place-fails` of the three; the smaller the gradient, the farther off.
#
# **It holds** with $\varepsilon$ outside. Keras adds it to $\sqrt s$ before the bias correction; Algorithm 1 of Adam's
# paper {cite}`kingma2015` adds it to $\sqrt{\widehat s}$, after it; but outside the root it is in both. For RMSprop the
# slide agrees with Keras.

# %%
calipers.record(
    "err-epsilon-place-holds",
    disputed(adam_moves(outside), by_adam),
    equals=0,
    title="Of three moves with epsilon outside the root, those that Keras's Adam disputes",
)
theta, s = 0, 0
for _ in range(3):
    s = 0.9 * s + 0.1 * g**2
    theta = theta - g / np.sqrt(s + 1e-7)
by_rmsprop = keras_moves(keras.optimizers.RMSprop(1.0))
calipers.record(
    "err-epsilon-place-rmsprop",
    disputed(theta, by_rmsprop),
    equals=0,
    title="Of three moves with epsilon inside the root, those that Keras's RMSprop disputes",
)


# %% [markdown]
# Disputed are {glue:text}`err-epsilon-place-holds` for Adam and {glue:text}`err-epsilon-place-rmsprop` for RMSprop.
# Half a slip, then.
#
# **In the book:** {ref}`optimisers <ch-optimisers>`, under *Where epsilon stands*.
#
# ## Learning rates
#
# (err-keras-old-arguments)=
# ### Arguments of an older Keras
#
# **As transcribed** {cite}`trinh2021`: `tf.keras.optimizers.SGD(lr=0.1, decay=1e-3)`, for a rate of $0.1/(1 + n/1000)$
# at step $n$.
#
# **It fails** today, though it ran on the Keras of its year. We ask for the rate at the steps 0, 1000 and 2000, which
# should be 0.1, 0.1/2 and 0.1/3: of the slide's line, and of the line with only `lr` repaired.

# %%
def missed(**arguments):
    """Of three rates, those that SGD with these arguments does not have."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            sgd = keras.optimizers.SGD(**arguments)
        except ValueError as error:
            print("refused:", error)
            return 3
    for warned in caught:
        print("warned:", warned.message)
    rates = []
    for step in (0, 1000, 2000):
        sgd.iterations.assign(step)
        rates.append(float(array(sgd.learning_rate)))
    return int(np.sum(abs(np.array(rates) - 0.1 / np.array([1, 2, 3])) > 1e-6))


calipers.record(
    "err-keras-old-arguments-fails",
    missed(lr=0.1, decay=1e-3),
    equals=3,
    title="Of three rates, those that the slide's line does not give",
)
calipers.record(
    "err-keras-old-arguments-ignored",
    missed(learning_rate=0.1, decay=1e-3),
    equals=2,
    title="The same with learning_rate= and decay=",
)

# %% [markdown]
# The slide's line misses {glue:text}`err-keras-old-arguments-fails`, because `lr` is refused. The half-repaired line is
# worse: it runs, warns, and misses {glue:text}`err-keras-old-arguments-ignored`, because `decay` is ignored and the
# rate stays where it was.
#
# **It holds** with `learning_rate` and a schedule.

# %%
inverse_time = keras.optimizers.schedules.InverseTimeDecay
falling = inverse_time(0.1, decay_steps=1, decay_rate=1e-3)
calipers.record(
    "err-keras-old-arguments-holds",
    missed(learning_rate=falling),
    equals=0,
    title="Of three rates, those that InverseTimeDecay does not give",
)

# %% [markdown]
# It misses {glue:text}`err-keras-old-arguments-holds`.
#
# **In the book:** {ref}`learning rates, where it goes wrong <sec-lr-traps>`.
#
# ## Regularisation
#
# (err-l1-signed)=
# ### An L¹ penalty without its bars
#
# **As transcribed** {cite}`trinh2021`: "$L^1$ regularisation $\Omega(\mathbf W) = \frac12 \sum_{i=1}^n w_i$".
#
# **It fails.** Without the bars a negative weight *lowers* the penalty. Take twenty weights, ten of each sign, where
# the loss alone would have them at $v$, and look for the $w$ that makes $\frac12 (w - v)^2 + \alpha\, \Omega(w)$
# smallest, with $\alpha = 0.2$.

# %%
v = np.r_[-np.arange(1, 11), np.arange(1, 11)] / 10
tries = np.linspace(-2, 2, 4001)


def shrunk(penalty):
    """Where each weight is best under half a squared error and the penalty."""
    total = (tries - v[:, np.newaxis]) ** 2 / 2 + 0.2 * penalty(tries)
    return tries[total.argmin(axis=1)]


def grown(penalty):
    return int(np.sum(abs(shrunk(penalty)) > abs(v) + 1e-6))


calipers.record(
    "err-l1-signed-fails",
    grown(lambda w: w / 2),
    at_least=10,
    title="Of 20 weights, those that half of sum w makes larger",
)

# %% [markdown]
# The penalty makes {glue:text}`err-l1-signed-fails` of the twenty *larger*: all the negative ones.
#
# **It holds** with the bars, $\sum_i \lvert w_i \rvert$. (The $\frac12$ is a matter of taste; $\alpha$ can swallow it.)

# %%
calipers.record(
    "err-l1-signed-holds",
    grown(lambda w: abs(w)),
    equals=0,
    title="Of 20 weights, those that the sum of |w| makes larger",
)
calipers.record(
    "err-l1-signed-zeros",
    int(np.sum(abs(shrunk(lambda w: abs(w))) < 1e-6)),
    equals=4,
    title="Of 20 weights, those that the sum of |w| sets to zero",
)
calipers.record(
    "err-l1-signed-keras",
    int(abs(float(array(keras.regularizers.L1(1.0)(v))) - abs(v).sum()) > 1e-4),
    equals=0,
    title="Of one penalty, those in which Keras's L1 is not the sum of |w|",
)

# %% [markdown]
# Now {glue:text}`err-l1-signed-holds` grow, and the {glue:text}`err-l1-signed-zeros` with $\lvert v \rvert \le \alpha$
# are zero, which is what $L^1$ is for. The slide's own code, `tf.keras.regularizers.l1`, has the bars.
#
# **In the book:** {ref}`regularisation, what the lectures said <sec-reg-lectures>`.
#
# (err-l2-unsquared)=
# ### An L² penalty without its square
#
# **As transcribed** {cite}`blaettchen`: the penalty
# $\frac{\lambda}{2} \lVert \theta \rVert_2 = \frac{\lambda}{2} \sqrt{\theta_1^2 + \dots + \theta_m^2}$, and its
# gradient $\lambda \theta$.
#
# **It fails.** The two do not belong together. Finite differences give the gradient of the root, at a random $\theta$
# with $\lambda = 1$.

# %%
theta = np.random.default_rng(0).normal(size=10)


def wrong_slopes(penalty, step=1e-6):
    """Of the penalty's ten slopes, those that are not theta."""
    moves = step * np.eye(10)
    slopes = [(penalty(theta + d) - penalty(theta - d)) / (2 * step) for d in moves]
    return int(np.sum(abs(slopes - theta) > 1e-6))


calipers.record(
    "err-l2-unsquared-fails",
    wrong_slopes(lambda w: np.sqrt(np.sum(w**2)) / 2),
    equals=10,
    title="Of ten slopes of half the norm, those that are not λθ",
)

# %% [markdown]
# Of the ten entries of the gradient {glue:text}`err-l2-unsquared-fails` are wrong. The root's gradient is
# $\frac{\lambda}{2} \theta / \lVert\theta\rVert$: a pull of the same strength however long $\theta$ is.
#
# **It holds** for the squared norm, $\frac{\lambda}{2} \lVert \theta \rVert_2^2$.

# %%
calipers.record(
    "err-l2-unsquared-holds",
    wrong_slopes(lambda w: np.sum(w**2) / 2),
    equals=0,
    title="Of ten slopes of half the squared norm, those that are not λθ",
)


# %% [markdown]
# Now {glue:text}`err-l2-unsquared-holds` are wrong. The slide's update rule, which is what one programs, has the right
# gradient.
#
# **In the book:** {ref}`regularisation, what the lectures said <sec-reg-lectures>`.
#
# (err-weight-decay-adam)=
# ### L² as weight decay
#
# **As transcribed** {cite}`blaettchen`, after the step $\theta := (1 - \alpha\lambda)\, \theta - \alpha \nabla J$ under
# an $L^2$ penalty: "weight decay".
#
# **It fails** with Adam, which the same lecture goes on to teach. Weight decay takes the *same share* of every weight.
# Let $\nabla J = 0$, start weights at 0.1, 1 and 10, and make one step with the penalty's gradient $\lambda\theta$.

# %%
def unevenness(optimiser, penalty):
    """Largest share that a step takes of a weight, over the smallest."""
    start = np.array([0.1, 1, 10], "float32")
    variable = keras.Variable(start)
    slope = keras.ops.convert_to_tensor(penalty * start)
    optimiser.apply([slope], [variable])
    lost = 1 - array(variable).astype(float) / start
    return round(float(lost.max() / lost.min()), 1)


calipers.record(
    "err-weight-decay-adam-fails",
    unevenness(keras.optimizers.Adam(0.01), penalty=0.5),
    at_least=50,
    title="Largest share lost over the smallest, Adam with a penalty",
)

# %% [markdown]
# Adam takes {glue:text}`err-weight-decay-adam-fails.mean:.0f` times as large a share of the smallest weight as of the
# largest: it divides by the size of the gradient, which here *is* the weight, so that every weight loses the same
# amount, whatever $\lambda$.
#
# **It holds** for plain descent, which is what the slide derives; and for Adam if the decay stands beside the step, as
# in AdamW {cite}`loshchilov2019`.

# %%
calipers.record(
    "err-weight-decay-adam-sgd",
    unevenness(keras.optimizers.SGD(0.01), penalty=0.5),
    between=(0.99, 1.01),
    title="Largest share lost over the smallest, SGD with a penalty",
)
calipers.record(
    "err-weight-decay-adam-holds",
    unevenness(keras.optimizers.AdamW(0.01, weight_decay=0.5), penalty=0),
    between=(0.99, 1.01),
    title="Largest share lost over the smallest, AdamW",
)


# %% [markdown]
# The ratio is {glue:text}`err-weight-decay-adam-sgd` for SGD and {glue:text}`err-weight-decay-adam-holds` for AdamW.
#
# **In the book:** {ref}`regularisation, from scratch <sec-reg-scratch>`, and
# {ref}`optimisers, weight decay <sec-opt-decay>`.
#
# (err-dropout-halving)=
# ### Halving the weights after every epoch
#
# **As transcribed** {cite}`schonhuth2019`, of dropout: "After each epoch, decrease each weight by a factor of
# $\frac12$."
#
# **It fails** when it is done after *each* epoch. A small net learns whether a point lies in a ring, with half of its
# hidden units deleted at every step. Its reference is the average over 500 deletions, which is what halving is to stand
# for.

# %%
def points(rng, many):
    x = rng.uniform(-1.5, 1.5, (many, 2))
    length = np.hypot(*x.T)
    return x, (length > 0.6) & (length < 1.2)


def score(net, x, mask):
    w1, b1, w2, b2 = net
    return np.maximum(x @ w1 + b1, 0) * mask @ w2 + b2


def train(seed, halve_each, epochs=100, units=60):
    """Train with masks of 0 and 1; the net, and the data that it has not seen."""
    rng = np.random.default_rng(seed)
    net = [rng.normal(size=(2, units)), rng.normal(size=units)]
    net += [rng.normal(0, 0.2, units), np.zeros(1)]
    x, y = points(rng, 500)
    for _ in range(epochs):
        for batch in rng.permutation(500).reshape(10, 50):
            w1, b1, w2, b2 = net
            mask = rng.random((50, units)) < 0.5
            hidden = np.maximum(x[batch] @ w1 + b1, 0) * mask
            delta = (1 / (1 + np.exp(-(hidden @ w2 + b2))) - y[batch]) / 50
            back = delta[:, np.newaxis] * w2 * (hidden > 0)
            slopes = [x[batch].T @ back, back.sum(0), hidden.T @ delta, delta.sum()]
            net = [p - 0.5 * slope for p, slope in zip(net, slopes)]
        if halve_each:
            net = [net[0] / 2, net[1], net[2] / 2, net[3]]
    return net, points(rng, 2000), rng


def lost_by_halving(each):
    """Points of accuracy lost against the average over deletions."""

    def lost(seed):
        net, (x, y), rng = train(seed, halve_each=False)
        masks = rng.random((500, 60)) < 0.5
        average = np.mean([score(net, x, mask) for mask in masks], axis=0)
        if each:
            net, (x, y), _ = train(seed, halve_each=True)
        else:
            net[2] = net[2] / 2  # the weights out of the units that were deleted, once
        halved = score(net, x, np.ones(60))
        right = np.mean((average > 0) == y), np.mean((halved > 0) == y)
        lost = 100 * (right[0] - right[1])
        return {"average": 100 * right[0], "commoner": 100 * np.mean(~y), "lost": lost}

    return calipers.over_seeds(lost, seeds, "halving")


result = lost_by_halving(each=True)
for name, title in (
    ("average", "of the average over deletions"),
    ("commoner", "of always saying: outside"),
):
    calipers.record(
        f"err-dropout-halving-{name}",
        result[name],
        "%",
        examples=2000,
        title=f"Accuracy {title}",
    )
calipers.record(
    "err-dropout-halving-fails",
    result["lost"],
    "points",
    at_least=1,
    title="Accuracy lost by halving after each epoch",
)

# %% [markdown]
# The average reads {glue:text}`err-dropout-halving-average`. Halving after each epoch loses
# {glue:text}`err-dropout-halving-fails` of it, so that about as much is left as by always saying "outside"
# ({glue:text}`err-dropout-halving-commoner`): every epoch undoes half of what was learned. Epochs are short here, ten
# steps. The longer they are, the more is learned anew before the next halving.
#
# **It holds** once, at the end, for the weights that lead out of the deleted units. (Or never: Keras's dropout doubles
# what it keeps, while it trains.)

# %%
result = lost_by_halving(each=False)
calipers.record(
    "err-dropout-halving-holds",
    result["lost"],
    "points",
    between=(-1, 1),
    title="Accuracy lost by halving once, after training",
)


# %% [markdown]
# That loses {glue:text}`err-dropout-halving-holds`.
#
# **In the book:** {ref}`regularisation, what the lectures said <sec-reg-lectures>`, on digits.
#
# (err-test-as-validation)=
# ### Early stopping that watches the test set
#
# **As transcribed** {cite}`trinh2021`: `EarlyStopping(monitor='val_loss', patience=15)` with
# `validation_data=(testX, testy)`.
#
# **It fails** as a measurement. The epoch is then chosen for looking good on the very examples that are to judge it.
# The plainest case: fifty nets that all guess between two classes, and 400 test examples. Keep the net that does best,
# and report it. The truth is 50 %.

# %%
def reported(chosen_on):
    """By how much the chosen guesser's reported accuracy exceeds 50 %."""

    def lead(seed):
        rng = np.random.default_rng(seed)
        right = {
            name: rng.binomial(400, 0.5, (500, 50)) for name in ("validation", "test")
        }
        best = right[chosen_on].argmax(axis=1)
        accuracy = 100 * right["test"][np.arange(500), best] / 400
        return {"lead": accuracy.mean() - 50}

    return calipers.over_seeds(lead, seeds, "guessers")["lead"]


calipers.record(
    "err-test-as-validation-fails",
    reported("test"),
    "points",
    at_least=3,
    title="Reported above the truth, chosen on the test examples",
)

# %% [markdown]
# What is reported lies {glue:text}`err-test-as-validation-fails` above the truth, on average over 500 such choices.
#
# **It holds** with 400 other examples to choose on, and the test examples kept for the end.

# %%
calipers.record(
    "err-test-as-validation-holds",
    reported("validation"),
    "points",
    between=(-1, 1),
    title="Reported above the truth, chosen on validation examples",
)

# %% [markdown]
# Now the report is off by {glue:text}`err-test-as-validation-holds`. The epochs of one training are far more alike than
# fifty guessers, so that in practice the bias is smaller; the chapter measures how much. In a short example on a slide
# it does no harm, but examples get copied.
#
# **In the book:** {ref}`regularisation, watching the test set <sec-reg-peek>`.
#
# (err-cost-has-no-meaning)=
# ### Cost has no meaning
#
# **As transcribed** {cite}`schonhuth2019`: "Cost has no meaning, while accuracy does: use accuracy!"
#
# **It fails.** Cost knows things of which accuracy knows nothing. It rained on 800 of 1,000 days. Forty-nine
# forecasters said "rain" every day, with a confidence of 51 %, 52 % and so on to 99 %. Which of them does the accuracy
# prefer?

# %%
rained = np.arange(1000) < 800
forecasts = np.arange(51, 100) / 100


def wrong_share(p):
    return np.mean((p > 0.5) != rained)


def log_cost(p):
    return -np.mean(np.log(np.where(rained, p, 1 - p)))


def preferred(judge):
    """The forecasts for which a judge's score is lowest."""
    marks = np.array([judge(p) for p in forecasts])
    return forecasts[marks < marks.min() + 1e-9]


calipers.record(
    "err-cost-has-no-meaning-fails",
    len(preferred(wrong_share)),
    equals=49,
    title="Of 49 forecasters, those that accuracy calls best",
)

# %% [markdown]
# It calls {glue:text}`err-cost-has-no-meaning-fails` of the 49 best: all.
#
# **It holds** that the cross-entropy is a *proper* score {cite}`good1952`: the honest probability has the lowest cost,
# and $e^{-L}$ is the (geometric) mean probability given to what happened.

# %%
calipers.record(
    "err-cost-has-no-meaning-holds",
    100 * abs(preferred(log_cost) - 0.8).max(),
    "points",
    at_most=0.1,
    title="How far the forecasts that cost calls best are from the 80 % of rainy days",
)


# %% [markdown]
# The forecaster whom cost prefers is {glue:text}`err-cost-has-no-meaning-holds` from the truth. To stop a training
# whose only use is a class label, accuracy is a fine guide, and that was the lecture's question. Whoever uses the
# probabilities should look at both.
#
# **In the book:** {ref}`regularisation, calibration <sec-reg-calibration>`.
#
# ## Data augmentation
#
# (err-expanded-350000)=
# ### 350,000 images
#
# **As transcribed** {cite}`schonhuth2019`: "Displace each image by one pixel to above, the right, below, or to the
# left. Each image has 4 extra copies. 350000 images instead of 50000."
#
# **It fails** by counting. How many extra copies would each image need?

# %%
def extra_copies(expanded, originals=50_000):
    return expanded / originals - 1


calipers.record(
    "err-expanded-350000-fails",
    extra_copies(350_000),
    equals=6,
    title="Extra copies of each image that 350,000 images would take",
)

# %% [markdown]
# It would need {glue:text}`err-expanded-350000-fails`, not 4.
#
# **It holds** with 250,000, as the next state of the same slide says. We make them, from 50,000 tiny images.

# %%
small = np.zeros((50_000, 3, 3), "uint8")
moves = [(0, 0), (-1, 0), (0, 1), (1, 0), (0, -1)]
expanded = np.concatenate([np.roll(small, move, axis=(1, 2)) for move in moves])
calipers.record(
    "err-expanded-350000-holds",
    len(expanded),
    equals=250_000,
    title="Images after 50,000 got four shifted copies each",
)

# %% [markdown]
# There are {glue:text}`err-expanded-350000-holds`.
#
# **In the book:** {ref}`data augmentation, what the lectures said <sec-aug-lectures>`.
#
# ## Convolutional networks
#
# (err-convolution-integral)=
# ### The convolution integral
#
# **As transcribed** {cite}`cab420`: $(f * g)(t) \triangleq \int_{-\infty}^{+\infty} f(\tau)\, g(\tau - r)\, dr$.
#
# **It fails.** The left side depends on $t$, the right side on $\tau$, and integrating over $r$ leaves
# $f(\tau) \int g$: a multiple of $f$, whatever the shape of $g$. The product of two polynomials is a convolution of
# their coefficients, so let $(1 + 2x)(3 + 4x + 5x^2) = 3 + 10x + 13x^2 + 10x^3$ judge, with sums for integrals.

# %%
f, g_of = {0: 1, 1: 2}, {0: 3, 1: 4, 2: 5}
product = np.polynomial.polynomial.polymul([1, 2], [3, 4, 5])


def wrong_coefficients(formula):
    found = [formula(t) for t in range(4)]
    return int(np.sum(abs(np.array(found) - product) > 1e-9))


def as_printed(tau):
    return sum(f.get(tau, 0) * g_of.get(tau - r, 0) for r in range(-5, 6))


def convolution(t):
    return sum(f.get(tau, 0) * g_of.get(t - tau, 0) for tau in range(-5, 6))


calipers.record(
    "err-convolution-integral-fails",
    wrong_coefficients(as_printed),
    at_least=3,
    title="Of four coefficients of a product, those that the printed formula misses",
)

# %% [markdown]
# The printed formula misses {glue:text}`err-convolution-integral-fails` of the four.
#
# **It holds** for $\int f(\tau)\, g(t - \tau)\, d\tau$. The slide's words, "after one is reversed and shifted",
# describe just that. A deep-learning layer, however, does not reverse: with $g(\tau - t)$ under the integral it is the
# cross-correlation, and that is what Keras computes.

# %%
calipers.record(
    "err-convolution-integral-holds",
    wrong_coefficients(convolution),
    equals=0,
    title="Of four coefficients of a product, those that the convolution misses",
)
signal, kernel = np.arange(9.0) ** 2, np.array([1.0, 2.0, 4.0])
layer = keras.ops.conv(
    signal.astype("float32")[None, :, None], kernel.astype("float32")[:, None, None]
)
by_layer = array(layer)[0, :, 0]
calipers.record(
    "err-convolution-integral-layer",
    int(np.sum(abs(by_layer - np.correlate(signal, kernel, "valid")) > 1e-3)),
    equals=0,
    title="Outputs of Keras's layer that differ from a cross-correlation",
)


# %% [markdown]
# The convolution misses {glue:text}`err-convolution-integral-holds`, and the layer differs from a cross-correlation in
# {glue:text}`err-convolution-integral-layer` places. Since $r$ looks like a $t$ and $dr$ like $d\tau$, part of this has
# the air of a transcription.
#
# **In the book:** {ref}`convolutional networks, what the lectures said <sec-conv-lectures>` and
# {ref}`the traps <sec-conv-traps>`.
#
# (err-receptive-20-12-12)=
# ### A receptive field of 20×12×12
#
# **As transcribed** {cite}`schonhuth2019`, of the second convolution: each image consists of 12×12 pixels of 20
# channels, "So, each LRF is a 20×12×12 tensor". (LRF: local {term}`receptive field`.)
#
# **It fails.** A window as large as the image fits in one place only.

# %%
def second_layer(window):
    """Sides of the map, and how many of the 20x12x12 inputs move its first unit."""
    probes = np.eye(20 * 12 * 12, dtype="float32").reshape(-1, 12, 12, 20)
    kernel = np.ones((window, window, 20, 1), "float32")
    maps = array(keras.ops.conv(probes, kernel))
    return maps.shape[1], int(np.sum(maps[:, 0, 0, 0] != 0))


side, seen = second_layer(12)
calipers.record(
    "err-receptive-20-12-12-fails",
    side,
    equals=1,
    title="Side of the second map with windows of 12x12",
)

# %% [markdown]
# The second layer's maps would have a side of {glue:text}`err-receptive-20-12-12-fails`, and nothing would be left to
# pool.
#
# **It holds** that the *input* is 20×12×12 and each receptive field 20×5×5, as two lines above on the same slide
# ("20×5×5 filter"). We move every input in turn and see which ones reach a unit.

# %%
side, seen = second_layer(5)
calipers.record(
    "err-receptive-20-12-12-holds",
    seen,
    equals=500,
    title="Inputs on which a unit of the second layer depends",
)
calipers.record(
    "err-receptive-20-12-12-side",
    side,
    equals=8,
    title="Side of the second map with windows of 5x5",
)


# %% [markdown]
# A unit depends on {glue:text}`err-receptive-20-12-12-holds` inputs, which is 20·5·5, and the map has a side of
# {glue:text}`err-receptive-20-12-12-side`.
#
# **In the book:** {ref}`convolutional networks, what the lectures said <sec-conv-lectures>`.
#
# (err-kernel-index)=
# ### A sum from 0 to M
#
# **As transcribed** {cite}`schonhuth2019`: with an $M \times M$ window,
# $\sigma\bigl(b + \sum_{l=0}^{M} \sum_{m=0}^{M} w_{l,m}\, a_{j+l,k+m}\bigr)$.
#
# **It fails.** From 0 to $M$ there are $M + 1$ numbers. Run the sum for a 5×5 window and count the weights for which it
# asks in vain.

# %%
def asked(last, size=5):
    """How many products the sum from 0 to `last` has, and how many lack a weight."""
    weights, products, missing = np.ones((size, size)), 0, 0
    for place in np.ndindex(last + 1, last + 1):
        products += 1
        try:
            weights[place]
        except IndexError:
            missing += 1
    return products, missing


calipers.record(
    "err-kernel-index-fails",
    asked(last=5)[1],
    equals=11,
    title="Weights of a 5x5 window that a sum from 0 to 5 asks for in vain",
)

# %% [markdown]
# There are {glue:text}`err-kernel-index-fails`: a row and a column too many.
#
# **It holds** from 0 to $M - 1$ (or from 1 to $M$, as in the lecture's next remark, "$1 \le l, m \le M$").

# %%
calipers.record(
    "err-kernel-index-holds",
    asked(last=4)[0],
    equals=25,
    title="Products of the sum from 0 to 4",
)


# %% [markdown]
# That makes {glue:text}`err-kernel-index-holds` products, and as the slide says, $M \times M$ parameters.
#
# **In the book:** {ref}`convolutional networks, what the lectures said <sec-conv-lectures>`.
#
# (err-forty-times)=
# ### Forty times fewer parameters
#
# **As transcribed** {cite}`schonhuth2019`: 20 maps of 5×5 require roughly 500 weights, a dense layer of 30 requires
# 23,520; "CNN requires roughly 40 times less parameters".
#
# **It fails**, if only just: divide the slide's own numbers.

# %%
def off_by(claimed, ratio):
    return 100 * abs(ratio / claimed - 1)


calipers.record(
    "err-forty-times-fails",
    off_by(40, 23_520 / 500),
    "%",
    at_least=10,
    title="By how much the ratio of the slide's numbers exceeds 40",
)

# %% [markdown]
# The quotient is 47, which is {glue:text}`err-forty-times-fails.mean:.0f` % above 40.
#
# **It holds** that the dense layer needs roughly 45 times as many, biases included. Keras counts.

# %%
dense, conv = layers.Dense(30), layers.Conv2D(20, 5)
dense.build((None, 784))
conv.build((None, 28, 28, 1))
calipers.record(
    "err-forty-times-holds",
    off_by(45, dense.count_params() / conv.count_params()),
    "%",
    at_most=2,
    title="By how much the ratio of the parameters misses 45",
)


# %% [markdown]
# It misses 45 by {glue:text}`err-forty-times-holds.mean:.1f` %. This is the smallest slip of all, and "roughly" covers
# most of it. What matters more: 20 maps and 30 units are not the same thing, and the chapter says why the comparison
# flatters neither.
#
# **In the book:** {ref}`convolutional networks, what the lectures said <sec-conv-lectures>`.
#
# ## Hyperparameters (in preparation)
#
# (err-numpy-rand)=
# ### Drawing a learning rate
#
# **As transcribed** {cite}`blaettchen`: a rate between 0.001 and 1, drawn uniformly by `np.random.rand(0.001,1)`, and
# on a logarithmic scale by `r = -3 * np.random.rand(0,1)` and $\alpha = 10^r$.
#
# **It fails**, twice. The arguments of `rand` are the *shape* of an array. The first call raises; the second, of shape
# 0 by 1, is empty.

# %%
def delivers(draw):
    """Whether a draw gives a number between 0.001 and 1."""
    try:
        drawn = np.atleast_1d(draw())
    except TypeError as error:
        print("refused:", error)
        return False
    return drawn.size > 0 and bool(np.all((drawn >= 0.001) & (drawn <= 1)))


calipers.record(
    "err-numpy-rand-fails",
    delivers(lambda: np.random.rand(0.001, 1))
    + delivers(lambda: 10 ** (-3 * np.random.rand(0, 1))),
    equals=0,
    title="Of the slide's two lines, those that deliver a rate",
)


# %% [markdown]
# {glue:text}`err-numpy-rand-fails` of the two deliver.
#
# **It holds** with `uniform(low, high)`. The advice behind the two lines was right: on the logarithmic scale a third of
# the draws fall below 0.01, on the plain one hardly any.

# %%
def below_a_hundredth(draw):
    return 100 * np.mean(draw() < 0.01)


rng = np.random.default_rng(0)


def plain():
    return rng.uniform(0.001, 1, 10_000)


def logarithmic():
    return 10 ** rng.uniform(-3, 0, 10_000)


calipers.record(
    "err-numpy-rand-holds",
    delivers(plain) + delivers(logarithmic),
    equals=2,
    title="Of the two corrected lines, those that deliver a rate",
)
calipers.record(
    "err-numpy-rand-logarithmic",
    below_a_hundredth(logarithmic),
    "%",
    between=(31, 36),
    title="Draws below 0.01 on the logarithmic scale",
)
calipers.record(
    "err-numpy-rand-plain",
    below_a_hundredth(plain),
    "%",
    at_most=2,
    title="Draws below 0.01 on the plain scale",
)


# %% [markdown]
# Both deliver now ({glue:text}`err-numpy-rand-holds` of two). Below 0.01 fall {glue:text}`err-numpy-rand-logarithmic`
# on the logarithmic scale and {glue:text}`err-numpy-rand-plain` on the plain one.
#
# **In the book:** the chapter on hyperparameters is in preparation.
#
# (err-hyperas-dead)=
# ### Hyperas for Keras
#
# **As transcribed** {cite}`dast2022`, among the tools for choosing hyperparameters: "Hyperas: Hyperopt + Keras".
#
# **It fails** today, and time is to blame, not the lecture. The last release of Hyperas on the Python Package Index is
# 0.4.1, of February 2019. Whoever imports its `optim` makes it import, in another of its files, `model_from_yaml` from
# `keras.models`. Here is that line alone.

# %%
def there(name):
    """Whether `from keras.models import name` works."""
    try:
        exec(f"from keras.models import {name}", {})
    except ImportError as error:
        print("refused:", str(error).split(" (")[0])
        return 0
    return 1


calipers.record(
    "err-hyperas-dead-fails",
    there("model_from_yaml"),
    equals=0,
    title="Imports of model_from_yaml that work in Keras 3, of one",
)

# %% [markdown]
# It works {glue:text}`err-hyperas-dead-fails` times in one.
#
# **It holds** that a search needs no more than a loop. Libraries that are looked after are KerasTuner (1.4.8, November
# 2025) and Optuna (5.0.0, September 2026). But the heart of a random search is three steps: draw, try, keep the best.
# We look for the learning rate with which Keras's SGD, in 25 steps, gets down a ravine whose curvatures are 1 and 10.

# %%
curvature = np.array([1.0, 10.0], "float32")


def loss_left(rate):
    """Share of the loss that 25 steps leave."""
    theta, sgd = keras.Variable(np.ones(2, "float32")), keras.optimizers.SGD(rate)
    for _ in range(25):
        sgd.apply([curvature * theta], [theta])
    return float(np.sum(curvature * array(theta) ** 2) / curvature.sum())


def search(seed):
    rng = np.random.default_rng(seed)
    rates = 10 ** rng.uniform(-4, -0.7, 20)
    tried = [loss_left(rate) for rate in rates]
    return {"left": 100 * min(tried), "typical": 100 * np.median(tried)}


found = calipers.over_seeds(search, seeds, "search")
calipers.record(
    "err-hyperas-dead-holds",
    found["left"],
    "%",
    at_most=2,
    title="Loss left by the best of 20 random rates",
)
calipers.record(
    "err-hyperas-dead-typical",
    found["typical"],
    "%",
    at_least=10,
    title="Loss left by the median of the 20 rates",
)

# %% [markdown]
# The best of twenty rates leaves {glue:text}`err-hyperas-dead-holds` of the loss, the median one
# {glue:text}`err-hyperas-dead-typical`.
#
# **In the book:** the chapter on hyperparameters is in preparation.
#
# ## Beyond classification (in preparation)
#
# (err-mse-mean)=
# ### A mean that is a sum
#
# **As transcribed** {cite}`cab420`: under the name of mean squared error, $MSE = \sum_i^N (y'_i - y_i)^2$.
#
# **It fails** to be a mean. Give the same hundred examples twice, and the loss doubles, though the net is no worse. Its
# gradient doubles too, so that the best learning rate depends on the size of the batch.

# %%
rng = np.random.default_rng(0)
truth, answer = rng.normal(size=100), rng.normal(size=100)


def twice_over_once(reduce):
    """The loss of the examples given twice, over their loss given once."""
    squares = (truth - answer) ** 2
    return reduce(np.tile(squares, 2)) / reduce(squares)


calipers.record(
    "err-mse-mean-fails",
    twice_over_once(np.sum),
    at_least=1.99,
    title="Sum of squares of examples given twice, over once",
)

# %% [markdown]
# The ratio is {glue:text}`err-mse-mean-fails.mean:.2f`.
#
# **It holds** divided by $N$: $\frac1N \sum_i (y'_i - y_i)^2$, as the name says and as Keras does.

# %%
calipers.record(
    "err-mse-mean-holds",
    twice_over_once(np.mean),
    between=(0.999, 1.001),
    title="Mean square of examples given twice, over once",
)
by_keras = float(array(keras.losses.mean_squared_error(truth, answer)))
calipers.record(
    "err-mse-mean-keras",
    int(abs(by_keras - np.mean((truth - answer) ** 2)) > 1e-5),
    equals=0,
    title="Of one loss, those in which Keras is not the mean of the squares",
)

# %% [markdown]
# Now it is {glue:text}`err-mse-mean-holds.mean:.2f`, and Keras agrees.
#
# **In the book:** the chapter on what lies beyond classification is in preparation.
#
# ---
#
# Have we slipped in turn? Very likely. A reader who runs the cells will see where, and the button at the top of the
# page opens an issue.
#
# ```{provenance}
# ```
