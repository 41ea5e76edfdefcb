"""Speed and memory of what the project exists for: ``python -m benchmarks``, or ``make bench``.

Every line is measured together with two yardsticks in the same run on the same machine: a *plain reference*, written in
`benchmarks.references` the way research code does the same (a loop over windows or pixels, inside it batches of 100
training images, broadcasting), and the *machine's limit*, how fast it multiplies matrices and reads memory. Where the
reference would take hours it is measured on a stated part and scaled up.
"""
