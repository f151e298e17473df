"""What alembic runs to reach the database. The connection, or the wish for plain SQL, comes from ``store.migrate``."""

from alembic import context

from store.tables import metadata

if context.is_offline_mode():
    context.configure(
        dialect_name=context.config.attributes["dialect"],
        output_buffer=context.config.attributes["output"],
        target_metadata=metadata,
        literal_binds=True,
    )
    context.run_migrations()
else:
    # The transaction is already open: SQLite and PostgreSQL roll tables back like rows, so a step is done or not.
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=metadata,
        transactional_ddl=True,
        compare_type=True,
    )
    context.run_migrations()
