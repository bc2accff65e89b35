"""How it runs fast: deciding a Plan, lowering it to Programs, emitting and running code."""
