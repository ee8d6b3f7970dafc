"""What the methods share that change how a model trains."""

import contextlib

import keras
import numpy as np

from snip_tf import _keras, layers, overriding
from snip_tf.masks import cut, set_masks


class Method(keras.callbacks.Callback):
    """Changes a model for the length of a block, in which it is fitted.

        with SomeMethod(model) as method:
            model.fit(x, y, callbacks=[method])

    At the end of the block the model has ordinary masks, and its layers are as
    they were before. After an error, or Ctrl-C, it keeps its weights and the
    masks that it had when the block began.

    Args:
        model: A built Keras model with masked layers, on TensorFlow.

    Raises:
        ValueError: If it has none, is pruned, or has another backend.
    """

    def __init__(self, model):
        super().__init__()
        if keras.backend.backend() != "tensorflow":
            raise ValueError(
                "This method needs Keras' TensorFlow backend. Received: "
                f"backend={keras.backend.backend()}"
            )
        self._pairs = layers.masked_weights(model)
        if not all(keras.ops.all(mask) for _, mask in self._pairs):
            raise ValueError(
                "`model` must be dense: this method would bring back what was "
                f"removed. Received: model={model.name!r}, which is pruned"
            )
        self._weights = [weight for weight, _ in self._pairs]
        self._owners = [
            layer
            for layer in layers.masked_layers(model)
            if layer.masked_weights()
        ]
        self._pruned_model = model
        self._changes = contextlib.ExitStack()

    def __enter__(self):
        """Begins the block."""
        self.set_model(None)
        self._steps_before = _steps_of(self._pruned_model)
        with contextlib.ExitStack() as undo:
            undo.callback(_trace_anew, self._pruned_model)
            for _, mask in self._pairs:
                undo.callback(mask.assign, keras.ops.convert_to_numpy(mask))
            self._begin()
            undo.push(self._changes.pop_all())
            _trace_anew(self._pruned_model)
            self._changes = undo.pop_all()
        return self

    def __exit__(self, kind, error, traceback):
        """Ends it."""
        masks = None
        with self._changes:
            if not kind:
                self._check_called()
                masks = self._found_masks()
        if masks is not None:
            set_masks(self._pruned_model, masks)

    def _check_called(self):
        """Refuses a `fit` that did not call what the method does in it."""
        base = keras.callbacks.Callback.on_train_begin
        works = type(self).on_train_begin is not base
        steps = _steps_of(self._pruned_model)
        trained = steps not in (0, self._steps_before)
        if works and trained and self.model is None:
            name = type(self).__name__
            raise ValueError(
                f"`callbacks` of `fit` must hold the {name} of the block: it "
                "works there. Received: a block that ends without it"
            )

    def _begin(self):
        """Changes the model; what undoes it goes onto `_changes`."""
        raise NotImplementedError

    def _found_masks(self):
        """Returns the masks of the end; may set the weights."""
        raise NotImplementedError

    def _override(self, name, wrap):
        """Replaces a method of the layers with masks for the block."""
        self._changes.enter_context(
            overriding.overridden(self._owners, name, wrap)
        )

    def _flat_weights(self):
        """Returns all masked weights as one flat float64 array."""
        return np.concatenate(
            [
                keras.ops.convert_to_numpy(weight).astype(np.float64).ravel()
                for weight in self._weights
            ]
        )

    def _assign(self, variables, flat):
        """Cuts a flat array into the weights' shapes, for as many variables."""
        shapes = [weight.shape for weight in self._weights]
        parts = cut(flat, shapes)
        for variable, part in zip(variables, parts, strict=True):
            variable.assign(part)
        return parts

    def _bake(self, flat):
        """Sets the weights; returns the masks of what of them is not zero."""
        return [part != 0 for part in self._assign(self._weights, flat)]

    def _add_variable(self, layer, name, value):
        """Adds a trainable variable to a layer for the block.

        Its optimizer goes with it.
        """
        model = self._pruned_model
        if model.compiled and model.optimizer.built:
            raise ValueError(
                f"`model` must be compiled inside of the {type(self).__name__} "
                "block, which adds variables. Received: an optimizer that is "
                "built"
            )
        variable = _keras.unlocked(layer).add_weight(
            name=name, shape=value.shape, dtype="float32", autocast=False
        )
        variable.assign(value)
        self._changes.callback(_keras.untrack, layer, variable)
        self._changes.callback(_keras.forget_optimizer, model)
        return variable

    def _add_loss(self, weight, loss):
        """Adds a function of a weight to the losses for the block."""
        before = weight.regularizer
        self._changes.callback(setattr, weight, "regularizer", before)
        weight.regularizer = _Added(loss, before)


class _Added(keras.regularizers.Regularizer):
    """The loss of a method, and the regularizer that was there before."""

    of_method = True  # `compile_model` leaves it

    def __init__(self, loss, before):
        self._loss, self._before = loss, before

    def __call__(self, value):
        own = self._loss(value)
        return own if self._before is None else own + self._before(value)


def _trace_anew(model):
    """Makes Keras forget the steps that it traced of the model before."""
    model.train_function = model.test_function = model.predict_function = None


def _steps_of(model):
    """Returns the steps that its optimizer has behind it."""
    optimizer = getattr(model, "optimizer", None)
    return _keras.steps_of(optimizer) if optimizer else 0
