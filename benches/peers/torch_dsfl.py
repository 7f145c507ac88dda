#!/usr/bin/env python3
"""DS-FL with entropy reduction in plain PyTorch, all in one process.

A round: every student trains on its private samples and says what it makes of the round's public ones; the mean, sharpened, is
what all of them distil; each is tested.
"""
import torch
import torch.nn.functional as F

import data

TEMPERATURE = 0.1


def main():
    args = data.arguments(__doc__, split=None, net="mlp", samples=1000, rate=0.1, batch=50, epochs=3)
    torch.set_num_threads(args.cores)
    torch.manual_seed(args.seed)
    students = [data.STUDENTS[args.net]() for _ in range(data.clients(args.split))]
    private = [data.labelled(args.split, f"client-{client}") for client in range(len(students))]
    public, test = data.transfer(args.split), data.labelled(args.split, "test")
    report = data.Reporter()
    for number in range(1, args.rounds + 1):
        samples = public[torch.randperm(len(public))[: args.samples]]
        answers = []
        for student, (x, y) in zip(students, private):
            data.fit(student, x, y, F.cross_entropy, args.rate, args.batch, args.epochs)
            answers.append(data.logits(student, samples).softmax(1))
        labels = (torch.stack(answers).mean(0) / TEMPERATURE).softmax(1).clone()
        for student in students:
            data.fit(student, samples, labels, data.soft_loss, args.rate, args.batch, args.epochs)
        accuracy = [data.accuracy(student, *test) for student in students]
        report.round(number, accuracy=sum(accuracy) / len(accuracy))


if __name__ == "__main__":
    main()
