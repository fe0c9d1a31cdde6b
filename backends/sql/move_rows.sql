WITH moved AS (
    DELETE FROM {source} WHERE time >= {lower} AND time < {upper} RETURNING *
)
INSERT INTO {target} SELECT * FROM moved
