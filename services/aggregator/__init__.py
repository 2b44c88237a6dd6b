"""The aggregator: keeps the models, takes the updates, applies the strategy's rule."""
