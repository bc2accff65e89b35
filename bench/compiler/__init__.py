"""How long the compiler itself takes: see `bench.compiler.test_compile_times`."""
