"""What is written and what goes wrong: LOG lines, exceptions with the user's own lines, endings."""

# ruff: noqa: B028, PLE0643, RET504 - blocks as users write them

from __future__ import annotations

import logging
import sys
import warnings

import own_module
import torch
from cases import OTHER, PROMPT, case


class Mistaken(Exception):
    """A user's own exception."""


class Reader:
    """A user's class whose method fails."""

    def read(self, tensor):
        return tensor[0][0][9999]


def careless(tensor):
    return tensor.reshape(3, -1, 7)


@case("Messages", "print", tells=("shape (1, ", "two words"))
def printed(model, remote):
    with model.trace(PROMPT, remote=remote):
        print("shape", tuple(model.transformer.h[1].output.shape))
        print("two", "words", sep=" ", end="!\n")
        done = True.save()
    return done


@case("Messages", "print without an end of line, and several lines at once", tells=("no end", "line one", "line two"))
def printed_raw(model, remote):
    with model.trace(PROMPT, remote=remote):
        print("line one\nline two")
        print("no end", end="")
        done = [1].save()
    return done


@case("Messages", "sys.stderr and sys.stdout written directly", tells=("to stderr", "to stdout"))
def written(model, remote):
    with model.trace(PROMPT, remote=remote):
        sys.stderr.write("to stderr\n")
        sys.stdout.write("to stdout\n")
        done = [1].save()
    return done


@case("Messages", "warnings.warn", tells="UserWarning: look here")
def warned(model, remote):
    with model.trace(PROMPT, remote=remote):
        warnings.warn("look here")
        done = [1].save()
    return done


@case("Messages", "logging", tells="logged aloud")
def logged(model, remote):
    with model.trace(PROMPT, remote=remote):
        logging.getLogger("user").warning("logged %s", "aloud")
        done = [1].save()
    return done


@case("Messages", "what was printed before an exception", raises="ValueError", tells="just before")
def printed_before_error(model, remote):
    with model.trace(PROMPT, remote=remote):
        print("just before")
        raise ValueError("and then")


@case("Messages", "characters of every kind, and very long lines", tells=("ä€😀", "x" * 5000))
def printed_oddly(model, remote):
    with model.trace(PROMPT, remote=remote):
        print("ä€😀")
        print("x" * 5000)
        done = [1].save()
    return done


@case("Messages", "a thousand lines in order", tells=tuple(f"line {number}." for number in range(0, 1000, 111)))
def printed_much(model, remote):
    with model.trace(PROMPT, remote=remote):
        for number in range(1000):
            print(f"line {number}.")
        done = [1].save()
    return done


@case("Exceptions", "an index out of range, at the user's line", raises="IndexError", line="mistake = logits[99]")
def index_error(model, remote):
    with model.trace(PROMPT, remote=remote):
        logits = model.output.logits.save()
        mistake = logits[99]
    return mistake


@case("Exceptions", "shapes that do not fit", raises="RuntimeError", line="hidden @ torch.ones(5, 5)")
def shape_error(model, remote):
    with model.trace(PROMPT, remote=remote):
        hidden = model.transformer.h[1].output
        product = hidden @ torch.ones(5, 5)
    return product


@case("Exceptions", "a name that does not exist", raises="NameError", line="undefined_name + 1")
def name_error(model, remote):
    with model.trace(PROMPT, remote=remote):
        value = undefined_name + 1  # noqa: F821
    return value


@case("Exceptions", "a module that does not exist", raises="AttributeError", line="model.transformer.nowhere")
def attribute_error(model, remote):
    with model.trace(PROMPT, remote=remote):
        hidden = model.transformer.nowhere.output.save()
    return hidden


@case("Exceptions", "an exception of the user's own class", raises="Mistaken", line="raise Mistaken(*given)")
def own_exception(model, remote):
    with model.trace(PROMPT, remote=remote):
        given = ("on purpose",)
        raise Mistaken(*given)


@case("Exceptions", "an assertion", raises="AssertionError", line="assert hidden.shape[0] == 2")
def assertion(model, remote):
    with model.trace(PROMPT, remote=remote):
        hidden = model.transformer.h[1].output
        assert hidden.shape[0] == 2, "one prompt was given"


@case("Exceptions", "in a function of the script", raises="RuntimeError", line="return tensor.reshape(3, -1, 7)")
def error_in_function(model, remote):
    with model.trace(PROMPT, remote=remote):
        hidden = careless(model.transformer.h[1].output).save()
    return hidden


@case("Exceptions", "in a method of a class of the script", raises="IndexError", line="return tensor[0][0][9999]")
def error_in_method(model, remote):
    with model.trace(PROMPT, remote=remote):
        hidden = Reader().read(model.transformer.h[1].output).save()
    return hidden


@case("Exceptions", "in a module beside the script", raises="KeyError", line='missing["weight"]')
def error_in_module(model, remote):
    with model.trace(PROMPT, remote=remote):
        hidden = own_module.fails(model.transformer.h[1].output).save()
    return hidden


@case("Exceptions", "in a function defined inside the block", raises="ZeroDivisionError", line="return 1 / number")
def error_in_inner_function(model, remote):
    with model.trace(PROMPT, remote=remote):

        def inverse(number):
            return 1 / number

        value = inverse(0).save()
    return value


@case("Exceptions", "in an invoke", raises="IndexError", line="model.output.logits[5]")
def error_in_invoke(model, remote):
    with model.trace(remote=remote) as tracer:
        with tracer.invoke(PROMPT):
            first = model.output.logits[0].save()
        with tracer.invoke(OTHER):
            second = model.output.logits[5].save()
    return first, second


@case("Exceptions", "in a session's second trace", raises="IndexError", line="model.output.logits[5]")
def error_in_session(model, remote):
    with model.session(remote=remote):
        with model.trace(PROMPT):
            first = model.output.logits[0].save()
        with model.trace(OTHER):
            second = model.output.logits[5].save()
    return first, second


@case("Exceptions", "at a step of a generation", raises="ValueError", line="raise ValueError(step)")
def error_at_step(model, remote):
    with model.generate(PROMPT, max_new_tokens=4, do_sample=False, remote=remote) as tracer:
        for step in tracer.iter[:4]:
            hidden = model.transformer.h[1].output
            if step == 2:
                raise ValueError(step)
    return hidden


@case("Exceptions", "in a backward pass", raises="KeyError", line="value = {}[slope.dim()]")
def error_in_backward(model, remote):
    with model.trace(PROMPT, remote=remote):
        hidden = model.transformer.h[1].output
        hidden.requires_grad_(True)
        loss = model.output.logits.sum()
        with loss.backward():
            slope = hidden.grad
            value = {}[slope.dim()]
    return slope, value


@case("Exceptions", "a module read out of order", raises="OutOfOrderError", line="model.transformer.h[0].output")
def out_of_order(model, remote):
    with model.trace(PROMPT, remote=remote):
        late = model.transformer.h[2].output.save()
        early = model.transformer.h[0].output.save()
    return late, early


@case("Exceptions", "a module that does not run", raises="OutOfOrderError", line="model.generator.streamer.output")
def never_reached(model, remote):
    with model.trace(PROMPT, remote=remote):
        token = model.generator.streamer.output.save()
    return token


@case("Exceptions", "a trace without input", raises="ValueError")
def no_input(model, remote):
    with model.trace(remote=remote):
        logits = model.output.logits.save()
    return logits


@case(
    "Exceptions", "a backward pass with nothing to differentiate", raises="NotImplementedError", line="loss.backward()"
)
def no_gradient(model, remote):
    with model.trace(PROMPT, remote=remote):
        hidden = model.transformer.h[1].output
        loss = model.output.logits.sum()
        with loss.backward():
            slope = hidden.grad.save()
    return slope


@case("Exceptions", "one raised from another", raises="Mistaken", line="ZeroDivisionError: division by zero")
def chained(model, remote):
    with model.trace(PROMPT, remote=remote):
        value = 0
        try:
            value = 1 / value
        except ZeroDivisionError as error:
            raise Mistaken("because of a division") from error


@case("Exceptions", "endless recursion", raises="RecursionError", line="return deeper(number + 1)")
def recursion(model, remote):
    with model.trace(PROMPT, remote=remote):

        def deeper(number):
            return deeper(number + 1)

        value = deeper(0).save()
    return value


@case("Exceptions", "sys.exit ends the job with its status", raises="SystemExit", line="sys.exit(3)")
def system_exit(model, remote):
    with model.trace(PROMPT, remote=remote):
        hidden = model.transformer.h[1].output.save()
        sys.exit(3)
    return hidden


@case("Exceptions", "KeyboardInterrupt", raises="KeyboardInterrupt", line="raise KeyboardInterrupt(number)")
def interrupt(model, remote):
    with model.trace(PROMPT, remote=remote):
        hidden = model.transformer.h[1].output.save()
        number = 5
        raise KeyboardInterrupt(number)
    return hidden


@case("Exceptions", "caught inside the block, which goes on")
def caught_inside(model, remote):
    with model.trace(PROMPT, remote=remote):
        hidden = model.transformer.h[1].output.save()
        try:
            hidden[99]
        except IndexError as error:
            said = str(error).save()
    return hidden, said


@case("Exceptions", "saved and brought back as a value")
def exception_saved(model, remote):
    with model.trace(PROMPT, remote=remote):
        caught = [].save()
        try:
            _ = [][1]
        except IndexError as error:
            caught.append(type(error).__name__ + ": " + str(error))
    return caught


@case("Exceptions", "the job after a failed one is right")
def right_afterwards(model, remote):
    answers = []
    for index in (99, 0):
        try:
            with model.trace(PROMPT, remote=remote):
                logits = model.output.logits[index].save()
            answers.append(logits)
        except Exception:  # noqa: BLE001
            answers.append("failed")
    return answers
